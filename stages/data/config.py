"""Which images, and how they are split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.artifact import Record
from stages.data.dataset import Dataset
from stages.data.fashion_mnist import TRAINING_FILE_IMAGES, FashionMnist


class DataConfig(Record):
    """Which images, and how they are split."""

    name: Literal["fashion_mnist"] = Field(
        "fashion_mnist", description="70,000 grey images of clothes in 10 classes, shown as 32x32 pixels"
    )
    # Left out of fingerprints: the files' hashes decide (Dataset.identity), not where they lie.
    folder: str | None = Field(
        None,
        exclude=True,
        examples=["my-data"],
        description="where its four .gz files are; unset: Debian's package, else downloaded once",
    )
    validation_images: int = Field(
        5_000,
        ge=100,
        le=30_000,
        description="taken from the training images, equally from each class, to make choices on; the test "
        "images are only read by verify, after the last choice",
    )
    train_images: int | None = Field(
        None,
        ge=100,
        examples=[10000],
        description="learn from only so many images, for a quick trial; unset: all that are left",
    )
    split_seed: int = Field(0, ge=0, description="decides which images are taken for validation")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        count = TRAINING_FILE_IMAGES
        if self.validation_images + (self.train_images or 0) > count:
            raise ValueError(f"validation_images and train_images are more than the {count} there are")
        return self


def open_dataset(config: DataConfig) -> Dataset:
    """The data set that a configuration names; nothing is read yet."""
    return _DATASETS[config.name](config)


def _fashion_mnist(config: DataConfig) -> Dataset:
    return FashionMnist(
        folder=config.folder,
        validation_images=config.validation_images,
        train_images=config.train_images,
        split_seed=config.split_seed,
    )


_DATASETS: Mapping[str, Callable[[DataConfig], Dataset]] = {"fashion_mnist": _fashion_mnist}
