"""Fashion-MNIST (Xiao et al., arXiv 1708.07747), whole.

32x32x3: grey, padded by 2 with the background value 0 and repeated to three channels, because apps'
classifiers want three; mean = std = 127.5. The parts ``architecture`` and ``choice`` are cut from the
training file, stratified and fixed by ``split_seed``; the test file is read by ``verify`` alone.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nasflow.base import files
from nasflow.base.errors import DatasetMissingError, IntegrityError, MachineError
from stages.data.dataset import ImageFacts, Part
from stages.data.grey import GreyImages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
BOTH_WAYS = "Install Debian's package dataset-fashion-mnist, or set data.path to a folder with its files."
_FOLDER_HINT = "Correct data.path, unset it, or put Fashion-MNIST's four .gz files there."
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SIDE, PADDING = 28, 2
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
TRAINING_FILE_IMAGES, TEST_IMAGES = 60_000, 10_000


@dataclass(frozen=True)
class FashionMnist:
    """The data set with one division of its training file; see :class:`stages.data.dataset.Dataset`.

    ``folder``: where its files are; None: Debian's package, else the user's cache (downloaded).
    """

    folder: str | None
    architecture_images: int
    choice_images: int
    train_images: int | None
    split_seed: int
    augmented: bool = True

    name: ClassVar[str] = "fashion_mnist"
    class_names: ClassVar[tuple[str, ...]] = CLASS_NAMES
    resolution: ClassVar[int] = SIDE + 2 * PADDING
    natural_resolution: ClassVar[int] = SIDE + 2 * PADDING
    channels: ClassVar[int] = 3
    shared_choice: ClassVar[bool] = False

    @property
    def counts(self) -> Mapping[Part, int]:
        """How many images each part holds."""
        rest = TRAINING_FILE_IMAGES - self.architecture_images - self.choice_images
        return {
            "train": rest if self.train_images is None else self.train_images,
            "architecture": self.architecture_images,
            "choice": self.choice_images,
            "test": TEST_IMAGES,
        }

    def facts(self) -> ImageFacts:
        """Nothing beside the parts."""
        return ImageFacts()

    def identity(self) -> dict[str, str]:
        """The hash of all files."""
        digest = hashlib.sha256("".join(sha for _, sha in FILES.values()).encode()).hexdigest()
        return {"dataset": self.name, "dataset_sha256": digest}

    def is_at_hand(self) -> bool:
        """Whether every file of the data set is on this machine."""
        return all(find_file(name, self.folder) is not None for name in FILES)

    def check_at_hand(self) -> None:
        """For those who may not download.

        Raises DatasetMissingError where a file would have to be fetched.
        """
        if self.folder is None and not self.is_at_hand():
            raise DatasetMissingError(
                f"Fashion-MNIST is not on this machine (neither in {DEBIAN_FOLDER} nor in "
                f"{cache_folder()}), and offline it is not downloaded.",
                hint=f"{BOTH_WAYS} Or run once without --offline (key offline).",
            )

    def check_folder(self, part: Part) -> None:
        """That a folder of the user's own holds the files of a part, which are not opened.

        Raises DatasetMissingError with all that is missing.
        """
        if self.folder is None:
            return
        folder = Path(self.folder)
        wanted = [f"{name}.gz" for name in FILES if name.startswith(_file_start(part))]
        missing = [name for name in wanted if not (folder / name).is_file()]
        if not missing:
            return
        if not folder.is_dir():
            state = "is a file, not a folder" if folder.exists() else "does not exist"
            raise DatasetMissingError(f"data.path: {folder} {state}.", hint=_FOLDER_HINT)
        names = " and ".join(missing)
        raise DatasetMissingError(f"data.path: {folder} does not hold {names}.", hint=_FOLDER_HINT)

    def load(self, part: Part) -> GreyImages:
        """The images of one part. Raises DatasetMissingError, IntegrityError, MachineError."""
        pixels, labels = _read_files(_file_start(part), self.folder)
        if part != "test":
            chosen = self._indices(labels)[part]
            pixels, labels = pixels[chosen], labels[chosen]
        return GreyImages(pixels, labels, self.channels, self.augmented)

    def _indices(self, labels: NDArray[np.int64]) -> Mapping[Part, NDArray[np.int64]]:
        """Which images of the training file each part holds: equally many of each class (+-1)."""
        import numpy as np

        random = np.random.default_rng(self.split_seed)
        classes = range(len(self.class_names))
        by_class = [random.permutation(np.flatnonzero(labels == c)) for c in classes]
        # Taking one image of each class in turn makes any prefix stratified.
        rank = np.concatenate([np.arange(len(of_class)) for of_class in by_class])
        order = np.concatenate(by_class)[np.argsort(rank, kind="stable")]
        architecture, choice, rest = np.split(
            order, np.cumsum([self.architecture_images, self.choice_images])
        )
        train = rest[: self.train_images]
        return {"train": np.sort(train), "architecture": np.sort(architecture), "choice": np.sort(choice)}


def _file_start(part: Part) -> str:
    """What the names of the files that a part is cut from begin with."""
    return "t10k" if part == "test" else "train"


@lru_cache(maxsize=4)
def _read_files(start: str, folder: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    import numpy as np

    images, labels = (_read_file(f"{start}-{kind}-ubyte", folder) for kind in ("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, SIDE, SIDE)
    padded = np.pad(pixels, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    return padded, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def find_file(name: str, folder: str | None) -> Path | None:
    """Where a file of the data set is on this machine (packed), or None."""
    path = (Path(folder) if folder else DEBIAN_FOLDER) / f"{name}.gz"
    if not folder and not path.is_file():
        path = cache_folder() / path.name
    return path if path.is_file() else None


def cache_folder() -> Path:
    """Where downloads are kept. Raises MachineError where this account has no home."""
    return files.cache_folder() / "fashion-mnist"


def _read_file(name: str, folder: str | None) -> bytes:
    path = find_file(name, folder)
    if path is None:
        if folder:
            raise DatasetMissingError(f"data.path: {folder} does not hold {name}.gz.", hint=_FOLDER_HINT)
        path = _download(name)
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise MachineError(f"Cannot read {path}: {error.strerror}.", hint=BOTH_WAYS) from error
    downloaded = not folder and path.parent != DEBIAN_FOLDER
    again = f"Delete {path}: it is downloaded again." if downloaded else BOTH_WAYS
    return _unpacked(name, packed, source=str(path), hint=again)


def _unpacked(name: str, packed: bytes, *, source: str, hint: str) -> bytes:
    """A file's content. Raises IntegrityError where it is not the one that its name promises."""
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{source} is damaged, or not a gzip file: {error}.", hint=hint) from error
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
        raise DatasetMissingError(
            f"Fashion-MNIST is not on this machine (neither in {DEBIAN_FOLDER} nor in {cache_folder()}) "
            f"and {url} cannot be fetched: {error}.",
            hint=BOTH_WAYS,
        ) from error
    _unpacked(name, packed, source=url, hint=BOTH_WAYS)
    try:
        files.write_atomic(target, packed)
    except MachineError as error:
        raise MachineError(error.message, hint=BOTH_WAYS, raw=error.raw) from error
    return target
