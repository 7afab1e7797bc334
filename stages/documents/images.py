"""What the networks learned from and were tested on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.artifact import Record


class ClassImages(Record):
    """A class, and how many images of it each part of the data has; None: not known."""

    name: str
    train: int | None = None
    architecture: int | None = None
    choice: int | None = None
    test: int | None = None


class ImagesReport(Record):
    """What the networks learned from and were tested on. None: the source does not know.

    ``*_images`` count the parts, copies and broken images left out. ``difference_points``: a true difference
    between two networks below this is more often missed than shown by the test images, if exactly one of the
    two is right on ``assumed_discordance`` (0..1) of them.
    """

    source: str
    name: str = Field(description="as a person would call it")
    resolution: int
    channels: int
    train_images: int
    architecture_images: int
    choice_images: int
    test_images: int
    shared_choice: bool = Field(
        default=False,
        description="whether architecture and choice are the same images, because there are few",
    )
    classes: tuple[ClassImages, ...] = Field(description="in the order of the labels")
    files_found: int | None = Field(default=None, description="images that the source lists")
    exact_copies: int | None = Field(default=None, description="images that are copies of another one")
    near_copies: int | None = Field(default=None, description="that are nearly copies")
    copies: Literal["leave_out", "keep_together", "ignore"] | None = Field(
        default=None, description="what was done with them"
    )
    left_out: int | None = Field(default=None, description="images that were left out as copies")
    label_conflicts: int | None = Field(
        default=None, description="sets of copies that stand in two classes; all of them were left out"
    )
    groups: int | None = Field(default=None, description="groups that were kept in one part each")
    broken: tuple[str, ...] | None = Field(
        default=None, description="files that could not be read and were left out, the first of them"
    )
    broken_images: int | None = Field(default=None, description="how many there are")
    augmentation: str = Field(default="none", description="the preset")
    balance: Literal["none", "weights", "sampling"] = "none"
    folds: int | None = None
    fold: int | None = None
    split_seed: int | None = None
    difference_points: float
    assumed_discordance: float
    accuracy_points: float = Field(description="half the interval of one network's accuracy, at most")
