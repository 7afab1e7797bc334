"""What the runs of all folds say together."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Document, Record
from stages.documents.images import ClassImages
from stages.documents.origin import Role


class FoldFigures(Record):
    """What the chain found where one fold was the test part. ``accuracy_points``: found less reference."""

    fold: int = Field(ge=0)
    test_images: int
    choices: tuple[int, ...]
    reference: str
    found_accuracy_percent: float
    reference_accuracy_percent: float
    accuracy_points: float
    ratio: float = Field(description="the found network's latency over the reference's")


class PooledNetwork(Record):
    """The networks of one name or role, one of each fold, on all images.

    ``name``: ``found``, ``reference`` (that of each fold), ``random`` (mean of each fold's), or that of a
    network that every fold has. ``accuracy_points`` and ``balanced_points``: its accuracy less the found
    network's.
    """

    name: str
    role: Role
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    balanced_accuracy_percent: float | None
    balanced_accuracy_interval_95: tuple[float, float] | None
    correct_by_class: tuple[int, ...] = Field(description="of all folds; empty for ``random``")
    accuracy_points: float | None = Field(default=None, description="None for the found network")
    accuracy_points_interval_95: tuple[float, float] | None = None
    balanced_points: float | None = None
    balanced_points_interval_95: tuple[float, float] | None = None


class ArchitectureAgreement(Record):
    """How the found architectures of the folds agree, over the layers that have a choice."""

    distinct: int = Field(ge=1, description="different architectures")
    layers: int = Field(ge=0)
    same_in_all: int = Field(ge=0, description="layers with the same candidate in every fold")
    shared_percent: float = Field(description="layers in which two folds agree, mean over pairs of folds")
    chance_percent: float = Field(description="the same of architectures drawn at random")


class CrossValidation(Document):
    """The whole chain, once for each fold: every image was tested once, by networks that had not seen it."""

    folds: tuple[FoldFigures, ...]
    test_images: int
    classes: tuple[ClassImages, ...]
    networks: tuple[PooledNetwork, ...]
    latency_ratio: float = Field(description="geometric mean over the folds, found over reference")
    latency_ratio_interval_95: tuple[float, float]
    architectures: ArchitectureAgreement
    equal_points: float | None = None
