"""Which images, in what parts, and how they are shown to a network in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.artifact import Record
from stages.data.augmentation import AugmentationConfig
from stages.data.dataset import Dataset
from stages.data.fashion_mnist import TRAINING_FILE_IMAGES, FashionMnist

FASHION_CHOICE_IMAGES = 2_500
CHOICE_SHARE, TEST_SHARE = 0.1, 0.2


def _share_or_number(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"{value:g} is neither a share below 1 nor a whole number of images")
    return value


Amount = Annotated[float, Field(gt=0), AfterValidator(_share_or_number)]
"""A share of the images (below 1), or a number of them."""


class DataConfig(Record):
    """Which images to learn from, and in what parts."""

    source: Literal["fashion_mnist", "folder", "hub"] = Field(
        "fashion_mnist",
        description="fashion_mnist (70,000 grey images of clothes in 10 classes, 32x32 pixels), folder (your "
        "own images, path: a folder for each class, or a CSV or JSONL file with columns file_name and "
        "label), or hub (a data set of the Hugging Face hub, name)",
    )
    # Left out of fingerprints: what the files hold decides (Dataset.identity), not where they lie.
    path: str | None = Field(
        None,
        exclude=True,
        examples=["my-photos"],
        description="the folder of the images; of fashion_mnist, where its four .gz files are, unset: "
        "Debian's package, else downloaded once",
    )
    name: str | None = Field(
        None,
        examples=["beans"],
        description="name of the data set on the hub, or a folder of Parquet or WebDataset files",
    )
    revision: str | None = Field(
        None, examples=["main"], description="its version on the hub: a branch, a tag or a commit"
    )
    architecture_images: Amount | None = Field(
        None,
        examples=[0.1],
        description="images that the search's architecture learns from: a share below 1, or a number; unset: "
        f"{FASHION_CHOICE_IMAGES:,} of fashion_mnist, a tenth of others",
    )
    choice_images: Amount | None = Field(
        None,
        examples=[0.1],
        description="images on which networks and epochs are chosen; unset: as many. Where the two would "
        "have fewer than 300 images together, they are the same images",
    )
    test_images: Amount | None = Field(
        None,
        examples=[0.2],
        description="images that verify alone reads, after the last choice; unset: those that the source "
        "calls test, else a fifth. Where there are such, and with folds, it must be unset",
    )
    train_images: int | None = Field(
        None,
        ge=16,
        examples=[10000],
        description="learn from only so many images, for a quick trial; unset: all that are left",
    )
    split_seed: int = Field(0, ge=0, description="decides which images are in which part")
    split_file: str | None = Field(
        None,
        exclude=True,
        examples=["split.csv"],
        description="which image is in which part, as 'nasflow data split' writes it; unset: by split_seed",
    )
    copies: Literal["leave_out", "keep_together", "ignore"] = Field(
        "leave_out",
        description="images that are copies of others: leave_out (use one of each exact set; near copies "
        "stay in one part), keep_together (use all, in one part), ignore (do not look for copies)",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=50,
        examples=[5],
        description="cross-validation: so many equal test parts, of which fold is one; unset: one test part",
    )
    fold: int = Field(0, ge=0, description="which of them is the test part")
    balance: Literal["none", "weights", "sampling"] = Field(
        "none",
        description="for classes of unequal size: none, weights (images of rare classes count more in the "
        "loss), or sampling (they are shown more often); with either, every class counts alike in choices",
    )
    max_broken: Annotated[float, Field(ge=0), AfterValidator(_share_or_number)] = Field(
        0.02,
        description="images that cannot be read are left out and listed, up to this share (at least one), or "
        "this number; then it is an error",
    )
    fit: Literal["crop", "stretch"] = Field(
        "crop",
        description="how an image of another shape becomes square: crop (the middle 7/8 of its shorter "
        "side), or stretch (as MediaPipe's classifier does)",
    )
    augmentation: AugmentationConfig = Field(
        AugmentationConfig(),
        description="how training images are varied; fashion_mnist: none, or light alone",
    )
    # What follows decides how fast images come, not which.
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        exclude=True,
        examples=[4],
        description="processes that decode and augment images, shared by trainings side by side; unset: by "
        "the number of cores; 0: none but those that train",
    )
    cache_gigabytes: float = Field(
        20.0,
        ge=0,
        exclude=True,
        description="images that decoded take at most this are decoded once, into the cache folder; others "
        "each time. Parquet and WebDataset files that take more (source hub) are read where they lie, "
        "and not copied",
    )

    @model_validator(mode="after")
    def _belongs(self) -> Self:
        if self.source == "folder" and self.path is None:
            raise ValueError("source folder needs path: the folder of the images")
        if self.source == "hub" and self.name is None:
            raise ValueError("source hub needs name: the data set's name on the hub")
        if self.source != "hub" and (self.name or self.revision):
            raise ValueError("name and revision belong to source hub")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold is {self.fold}; of {self.folds} folds the last is {self.folds - 1}")
        if self.folds is not None and self.split_file is not None:
            raise ValueError("folds and split_file exclude each other: a split file holds one test part")
        if self.folds is not None and self.test_images is not None:
            raise ValueError("folds and test_images exclude each other: each fold is a test part")
        if self.source == "fashion_mnist":
            self._check_fashion()
        return self

    def _check_fashion(self) -> None:
        taken = {"test_images": self.test_images, "split_file": self.split_file, "folds": self.folds}
        if given := [name for name, value in taken.items() if value is not None]:
            raise ValueError(f"{given[0]} does not apply to fashion_mnist, which has a test part of its own")
        if self.augmentation.preset == "strong":
            raise ValueError("augmentation.preset strong does not apply to fashion_mnist: use light or none")
        train = (self.train_images or 1) + sum(self.fashion_choice_images())
        if train > TRAINING_FILE_IMAGES:
            raise ValueError(
                "architecture_images, choice_images and train_images are more than the "
                f"{TRAINING_FILE_IMAGES} there are"
            )

    def fashion_choice_images(self) -> tuple[int, int]:
        """Fashion-MNIST's images for the architecture and for choices."""
        given = self.architecture_images, self.choice_images
        architecture, choice = (
            FASHION_CHOICE_IMAGES
            if amount is None
            else int(amount if amount >= 1 else amount * TRAINING_FILE_IMAGES)
            for amount in (given[0], given[1] if given[1] is not None else given[0])
        )
        return architecture, choice


class SizedData(DataConfig):
    """The data section, its paths absolute, with what the space makes of its images."""

    resolution: int | None = Field(None, description="pixels of an image as the network takes it")
    channels: int = Field(3, description="of an image as the network takes it")


def open_dataset(config: DataConfig) -> Dataset:
    """The data set that a configuration names; of a folder, the names of its files are read."""
    return _DATASETS[config.source](config)


def _fashion_mnist(config: DataConfig) -> Dataset:
    architecture, choice = config.fashion_choice_images()
    return FashionMnist(
        folder=config.path,
        architecture_images=architecture,
        choice_images=choice,
        train_images=config.train_images,
        split_seed=config.split_seed,
        augmented=config.augmentation.preset != "none",
    )


def _folder(config: DataConfig) -> Dataset:
    from stages.data.image_folder import ImageFolder

    return ImageFolder(config)


def _hub(config: DataConfig) -> Dataset:
    from stages.data.hub import HubImages

    return HubImages(config)


_DATASETS: Mapping[str, Callable[[DataConfig], Dataset]] = {
    "fashion_mnist": _fashion_mnist,
    "folder": _folder,
    "hub": _hub,
}
