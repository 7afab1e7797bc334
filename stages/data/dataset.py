"""What a data set offers: its classes, the size of its images, and the images of a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from nasflow.base.errors import UsageError
from stages.space.search_space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageSet:
    """Images and their labels. ``pixels_NHW`` is uint8 grey (N, H, W), ``labels`` int64 (N,).

    ``channels``: as so many equal channels the network takes them.
    """

    pixels_NHW: NDArray[np.uint8]
    labels: NDArray[np.int64]
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def batch_NHWC(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Chosen images as the network takes them: float32 (n, H, W, channels), -1..1."""
        import numpy as np

        grey = (self.pixels_NHW[which].astype(np.float32) - 127.5) / 127.5
        return np.repeat(grey[..., None], self.channels, axis=-1)


class Dataset(Protocol):
    """Images to learn from, split in three. Nothing is read before :meth:`load`."""

    @property
    def name(self) -> str:
        """As the configuration names it."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels 0, 1, ..."""
        ...

    @property
    def resolution(self) -> int:
        """Height and width of an image as the network takes it, in pixels."""
        ...

    @property
    def channels(self) -> int:
        """Channels of an image as the network takes it."""
        ...

    @property
    def counts(self) -> Mapping[Split, int]:
        """How many images each split holds."""
        ...

    def identity(self) -> dict[str, str]:
        """What decides a result besides the configuration: the content of the files."""
        ...

    def is_at_hand(self) -> bool:
        """Whether every file is on this machine."""
        ...

    def check_at_hand(self) -> None:
        """For those who may not download.

        Raises DatasetMissingError where a file would have to be fetched.
        """
        ...

    def check_folder(self, split: Split) -> None:
        """That a folder of the user's own holds the files of a split, which are not opened.

        Raises DatasetMissingError with all that is missing.
        """
        ...

    def load(self, split: Split) -> ImageSet:
        """The images of one split.

        Raises DatasetMissingError where the files are not here and cannot be fetched, IntegrityError where
        one of them is not what it should be.
        """
        ...

    def sample(self, split: Split, per_class: int) -> ImageSet:
        """The first images of each class, class by class: to look at. Raises as :meth:`load`."""
        ...


def check_fits(dataset: Dataset, space: SearchSpace) -> None:
    """Raises UsageError where the networks of a space do not take these images."""
    wanted = (space.resolution, space.input_channels, space.classes)
    offered = (dataset.resolution, dataset.channels, len(dataset.class_names))
    if wanted != offered:
        raise UsageError(
            f"space {space.name} is for images of {wanted[0]} pixels, {wanted[1]} channels, {wanted[2]} "
            f"classes; {dataset.name} has {offered[0]} pixels, {offered[1]} channels, {offered[2]} classes.",
            hint="It can be profiled, but not searched: choose another space or resolution.",
        )
