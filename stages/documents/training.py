"""Output of ``finetune`` and of ``baseline``: trained networks."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from pipeline.artifact import Blob, Document, Record
from stages.documents.origin import ComputeCost, MadeByAll, Origin, PretrainedFrom, Role
from stages.space.search_space import NetConfig


class EpochPoint(Record):
    """One epoch of a training curve. Accuracy is that of the averaged weights."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_accuracy_percent: float
    seconds: float


class TrainedNetwork(Record):
    """A trained network. ``images_seen`` counts image passes after its architecture was fixed."""

    name: str
    role: Role
    net: NetConfig
    weights: Blob
    origin: Origin
    pretrained: PretrainedFrom = None
    images_seen: int
    curve: tuple[EpochPoint, ...]
    best_epoch: int
    kept_share: float | None = Field(
        default=None,
        description="of a network whose weights descend from published ones: how far it is on the way from "
        "its start to the best epoch's, 0 to 1; null: all of it",
    )
    validation_accuracy_percent: float
    seconds: float
    compute_cost: ComputeCost | None = Field(
        default=None,
        validation_alias=AliasChoices("compute_cost", "effort"),  # as version 0.1 wrote it
    )
    made_by: MadeByAll = ()


class TrainedNetworks(Document):
    """Output of ``finetune`` and of ``baseline``."""

    networks: tuple[TrainedNetwork, ...]
