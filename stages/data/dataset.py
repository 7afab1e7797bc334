"""What a data set offers: its classes, the images of a part, and batches of them.

Images are in four parts. Weights learn from ``train``; a search's architecture steps and the values of paths
look at ``architecture``; every later choice (best epoch, int8's way) at ``choice``; ``verify`` alone
reads ``test``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from nasflow.base.errors import UsageError
from stages.data.sharing import ALONE, Sharing
from stages.space.search_space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

Part = Literal["train", "architecture", "choice", "test"]
PARTS: tuple[Part, ...] = ("train", "architecture", "choice", "test")


@dataclass(frozen=True)
class ImageFacts:
    """What is known of the images of a person's own, beside their parts. None: the source does not know.

    ``by_class``: how many images of each class a part holds. ``exact_copies``: images whose file is that of
    another one; ``near_copies``: that show nearly the same; ``left_out``: that were left out for either
    reason. ``label_conflicts``: sets of copies in two classes. ``broken``: files that cannot be read.
    """

    files_found: int | None = None
    exact_copies: int | None = None
    near_copies: int | None = None
    left_out: int | None = None
    label_conflicts: int | None = None
    groups: int | None = None
    broken: tuple[str, ...] | None = None
    by_class: Mapping[Part, Sequence[int]] = field(default_factory=dict)


class Batches(Protocol):
    """The images of one part on the training device, batch by batch.

    Everything random is drawn from (seed, epoch) alone, so that a run that was killed repeats an interrupted
    epoch with the same batches. Where several processes train one network together, each is given its share
    of the very batches that one process alone would have.
    """

    @property
    def batch_size(self) -> int:
        """Images of a batch, of all shares together: what was asked for, or all there are."""
        ...

    @property
    def class_weights_K(self) -> Tensor | None:
        """How much an image of each class counts in a loss of :meth:`training`'s batches; None: all the same.

        Where rare classes are shown more often instead, it is None.
        """
        ...

    @property
    def evaluation_weights_K(self) -> Tensor | None:
        """How much an image of each class counts on :meth:`in_order`'s images, whose mean is 1.

        None: all the same. Otherwise all classes count alike.
        """
        ...

    def __len__(self) -> int:
        """Full batches of an epoch; at least one."""
        ...

    def training(
        self, seed: int, epoch: int, *, first: int = 0, mix: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's batches from number ``first`` on, shuffled and augmented.

        x_NCHW float32 in -1..1, channels last in memory, and labels: int64 (N,), or float32 (N, classes)
        where images are mixed with each other. ``mix`` false: they never are. The last, incomplete batch is
        left out: BN statistics of a few images would be noise.
        """
        ...

    def in_order(self, batch_size: int = 500, *, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order, from batch ``first`` on: x_NCHW float32 and labels int64 (N,).

        No share is empty: where a batch has fewer images than there are processes, some are not given it.
        """
        ...


class Images(Protocol):
    """The images of one part and their labels."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of each image's class: (N,)."""
        ...

    @property
    def balanced(self) -> bool:
        """Whether all classes count alike, however many images they have (``data.balance``)."""
        ...

    def __len__(self) -> int: ...

    def batch_NHWC(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Chosen images as the network takes them: float32 (n, H, W, channels), -1..1."""
        ...

    def batches(self, batch_size: int, device: torch.device, sharing: Sharing = ALONE) -> Batches:
        """These images in batches for a network on ``device``; of each batch this process's share."""
        ...


class Dataset(Protocol):
    """Images to learn from, in four parts. Nothing is read before :meth:`load`."""

    @property
    def name(self) -> str:
        """As a person would call it."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels 0, 1, ..."""
        ...

    @property
    def natural_resolution(self) -> int:
        """Height and width of an image that shows what is there, in pixels: the median shorter side."""
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
    def counts(self) -> Mapping[Part, int]:
        """How many images each part holds."""
        ...

    @property
    def shared_choice(self) -> bool:
        """Whether ``architecture`` and ``choice`` are the same images, because there are few."""
        ...

    def facts(self) -> ImageFacts:
        """What is known of them."""
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

    def check_folder(self, part: Part) -> None:
        """That a folder of the user's own holds the files of a part, which are not opened.

        Raises DatasetMissingError with all that is missing.
        """
        ...

    def load(self, part: Part) -> Images:
        """The images of one part.

        Raises DatasetMissingError where the files are not here and cannot be fetched, IntegrityError where
        one of them is not what it should be.
        """
        ...


def check_fits(dataset: Dataset, space: SearchSpace) -> None:
    """Raises UsageError where the networks of a space do not take these images."""
    wanted = (space.resolution, space.input_channels, space.classes)
    offered = (dataset.resolution, dataset.channels, len(dataset.class_names))
    if wanted != offered:
        raise UsageError(
            f"space {space.name} is for images of {wanted[0]} pixels, {wanted[1]} channels, {wanted[2]} "
            f"classes; {dataset.name} has {offered[0]} pixels, {offered[1]} channels, {offered[2]} classes.",
            hint="It can be profiled, but not searched: choose another space, or set space.resolution.",
        )
