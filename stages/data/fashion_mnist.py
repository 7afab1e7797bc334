"""Images to learn from. Today: Fashion-MNIST (Xiao et al., arXiv 1708.07747), whole.

32x32x3: grey, padded by 2 with the background value 0 and repeated to three channels, because apps'
classifiers want three; mean = std = 127.5. The validation split is cut from the training set, stratified
and fixed by ``split_seed``; the test set is read by ``verify`` alone.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from nasflow.base import files
from nasflow.base.errors import DatasetMissing, EnvironmentFault, IntegrityError, UsageError
from pipeline.artifact import Record
from stages.space.search_space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
BOTH_WAYS = "Install Debian's package dataset-fashion-mnist, or set data.folder to a folder with its files."
_FOLDER_HINT = "Correct data.folder, unset it, or put Fashion-MNIST's four .gz files there."
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SIDE, PADDING, CHANNELS, CLASSES = 28, 2, 3, 10
RESOLUTION = SIDE + 2 * PADDING
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# Hashes of the unpacked files: whoever packed them, the images are the same. name: (count, SHA-256)
FILES: Mapping[str, tuple[int, str]] = {
    "train-images-idx3-ubyte": (60_000, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60_000, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (10_000, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10_000, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


class DataConfig(Record):
    """Which images, and how they are split."""

    name: Literal["fashion_mnist"] = Field("fashion_mnist", description="the data set")
    # Left out of fingerprints: the files' hashes decide (dataset_identity), not where they lie.
    folder: str | None = Field(
        None,
        exclude=True,
        description="where its files are; unset: Debian's package, else the user's cache (downloaded)",
    )
    validation_images: int = Field(
        5_000, ge=100, le=30_000, description="cut from the training set, equally from each class"
    )
    train_images: int | None = Field(
        None, ge=100, description="use only so many training images (for trials); unset: all that are left"
    )
    split_seed: int = Field(0, ge=0, description="which images the validation split takes")

    @property
    def images_to_train(self) -> int:
        """How many training images there are behind the validation split."""
        return self.train_images or FILES["train-images-idx3-ubyte"][0] - self.validation_images

    @model_validator(mode="after")
    def _enough(self) -> Self:
        count = FILES["train-images-idx3-ubyte"][0]
        if self.validation_images + (self.train_images or 0) > count:
            raise ValueError(f"validation_images and train_images are more than the {count} there are")
        return self


@dataclass(frozen=True)
class ImageSet:
    """Images and their labels. ``pixels_NHW`` is uint8 (N, 32, 32), ``labels`` int64 (N,)."""

    pixels_NHW: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def batch_NHWC(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Chosen images as the network takes them: float32 (n, 32, 32, 3), -1..1."""
        import numpy as np

        grey = (self.pixels_NHW[which].astype(np.float32) - 127.5) / 127.5
        return np.repeat(grey[..., None], CHANNELS, axis=-1)


def dataset_identity(config: DataConfig) -> dict[str, str]:
    """What decides a result besides the configuration: the content of the files."""
    digest = hashlib.sha256("".join(sha for _, sha in FILES.values()).encode()).hexdigest()
    return {"dataset": config.name, "dataset_sha256": digest}


def check_fits(config: DataConfig, space: SearchSpace) -> None:
    """Raises UsageError where the networks of a space do not take these images."""
    wanted = (space.resolution, space.input_channels, space.classes)
    if wanted != (RESOLUTION, CHANNELS, CLASSES):
        raise UsageError(
            f"space {space.name} is for images of {wanted[0]} pixels, {wanted[1]} channels, {wanted[2]} "
            f"classes; {config.name} has {RESOLUTION} pixels, {CHANNELS} channels, {CLASSES} classes.",
            hint="It can be profiled, but not searched: choose another space or resolution.",
        )


def load_images(config: DataConfig, split: Split) -> ImageSet:
    """One split of the data set.

    Raises DatasetMissing where the files are not here and cannot be fetched, IntegrityError where
    one of them is not what it should be.
    """
    part = "t10k" if split == "test" else "train"
    pixels, labels = _read_part(part, config.folder)
    if split == "test":
        return ImageSet(pixels, labels)
    train, validation = _split_indices(config)
    chosen = validation if split == "validation" else train
    return ImageSet(pixels[chosen], labels[chosen])


def _split_indices(config: DataConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and validation indices; each holds equally many images of each class (+-1)."""
    import numpy as np

    _, labels = _read_part("train", config.folder)
    random = np.random.default_rng(config.split_seed)
    by_class = [random.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)]
    # Taking one image of each class in turn makes any prefix stratified.
    rank = np.concatenate([np.arange(len(of_class)) for of_class in by_class])
    order = np.concatenate(by_class)[np.argsort(rank, kind="stable")]
    validation, rest = order[: config.validation_images], order[config.validation_images :]
    train = rest[: config.train_images]
    return np.sort(train), np.sort(validation)


@lru_cache(maxsize=4)
def _read_part(part: str, folder: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    import numpy as np

    images, labels = (_read_file(f"{part}-{kind}-ubyte", folder) for kind in ("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, SIDE, SIDE)
    padded = np.pad(pixels, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    return padded, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def find_file(name: str, folder: str | None) -> Path | None:
    """Where a file of the data set is on this machine (packed), or None."""
    path = (Path(folder) if folder else DEBIAN_FOLDER) / f"{name}.gz"
    if not folder and not path.is_file():
        path = cache_folder() / path.name
    return path if path.is_file() else None


def is_at_hand(config: DataConfig) -> bool:
    """Whether every file of the data set is on this machine."""
    return all(find_file(name, config.folder) is not None for name in FILES)


def check_at_hand(config: DataConfig) -> None:
    """For those who may not download. Raises DatasetMissing where a file would have to be fetched."""
    if config.folder is None and not is_at_hand(config):
        raise DatasetMissing(
            f"Fashion-MNIST is not on this machine (neither in {DEBIAN_FOLDER} nor in {cache_folder()}), and "
            "offline it is not downloaded.",
            hint=f"{BOTH_WAYS} Or run once without --offline (key offline).",
        )


def check_folder(config: DataConfig, split: Split) -> None:
    """That a folder of the user's own holds the files of a split, which are not opened.

    Raises DatasetMissing with all that is missing.
    """
    if config.folder is None:
        return
    folder = Path(config.folder)
    wanted = [f"{name}.gz" for name in FILES if name.startswith("t10k" if split == "test" else "train")]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if not missing:
        return
    if not folder.is_dir():
        state = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DatasetMissing(f"data.folder: {folder} {state}.", hint=_FOLDER_HINT)
    raise DatasetMissing(f"data.folder: {folder} does not hold {' and '.join(missing)}.", hint=_FOLDER_HINT)


def cache_folder() -> Path:
    """Where downloads are kept. Raises EnvironmentFault where this account has no home."""
    return files.cache_folder() / "fashion-mnist"


def _read_file(name: str, folder: str | None) -> bytes:
    path = find_file(name, folder)
    if path is None:
        if folder:
            raise DatasetMissing(f"data.folder: {folder} does not hold {name}.gz.", hint=_FOLDER_HINT)
        path = _download(name)
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"Cannot read {path}: {error.strerror}.", hint=BOTH_WAYS) from error
    downloaded = not folder and path.parent != DEBIAN_FOLDER
    again = f"Delete {path}: it is downloaded again." if downloaded else BOTH_WAYS
    return _unpacked(name, packed, source=str(path), hint=again)


def _unpacked(name: str, packed: bytes, *, source: str, hint: str) -> bytes:
    """A file's content. Raises IntegrityError where it is not the one that its name promises."""
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{source} is damaged, or no gzip file: {error}.", hint=hint) from error
    seen, expected = hashlib.sha256(content).hexdigest(), FILES[name][1]
    if seen != expected:
        raise IntegrityError(
            f"{source} is not Fashion-MNIST's {name}: SHA-256 {seen[:16]}..., expected {expected[:16]}....",
            hint=hint,
        )
    return content


def _download(name: str) -> Path:
    """Fetch one file into the cache, checked before it gets its name."""
    import http.client
    import urllib.request

    target = cache_folder() / f"{name}.gz"
    url = f"{MIRROR}{name}.gz"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            packed = response.read(64 * 2**20)
    except (OSError, http.client.HTTPException) as error:
        raise DatasetMissing(
            f"Fashion-MNIST is not on this machine (neither in {DEBIAN_FOLDER} nor in {cache_folder()}) "
            f"and {url} cannot be fetched: {error}.",
            hint=BOTH_WAYS,
        ) from error
    _unpacked(name, packed, source=url, hint=BOTH_WAYS)
    try:
        files.write_atomic(target, packed)
    except EnvironmentFault as error:
        raise EnvironmentFault(error.message, hint=BOTH_WAYS, raw=error.raw) from error
    return target
