"""Outputs of ``search`` and ``prune``: the supernet, and the networks cut out of it."""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import Field

from android_bench.device import LatencyMeasurement
from pipeline.artifact import Blob, Document, Record
from stages.documents.latency import ReferenceLatency
from stages.documents.origin import ComputeCost, MadeByAll, PretrainedFrom, Role
from stages.space.search_space import NetConfig, SearchSpace


class SearchEpoch(Record):
    """One epoch of the search, as the report draws it."""

    epoch: int
    phase: Literal["warm-up", "search"]
    train_loss: float
    validation_loss: float
    validation_accuracy_percent: float
    expected_ms: float
    multiplier: float | None = Field(None, description="None: latency has no price")
    entropy: float = Field(description="mean over searched layers, 0 (decided) .. 1 (uniform)")
    probabilities: tuple[tuple[float, ...], ...]
    seconds: float


LogProbabilities = tuple[tuple[float, ...], ...]
"""[layer][candidate]"""


class TargetProbabilities(Record):
    """What was learned for a further target."""

    target_ms: float
    log_probabilities: LogProbabilities = Field(description="[layer][candidate]")


class PathEvaluations(Record):
    """What probabilities were learned from: the step, the path, what it was worth, and its noise's factor."""

    schema_version: int = 1
    step: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    value: tuple[float, ...] = Field(description="negative cross entropy, nats")
    noise: tuple[float, ...] = Field(description="of its variance, 1 for the latest")


class SearchResult(Document):
    """Output of ``search``: the trained supernet, and the probabilities of its candidates for each target.

    ``evaluations`` is a :class:`PathEvaluations`, from which those of other targets can be learned; None
    where the estimator keeps none.
    """

    schema_version: int = 3
    space: SearchSpace
    target_ms: float
    log_probabilities: LogProbabilities = Field(description="[layer][candidate]")
    further: tuple[TargetProbabilities, ...] = ()
    estimator: str
    evaluations: Blob | None = None
    expected_ms: float
    supernet: Blob
    history: tuple[SearchEpoch, ...]
    seconds: float
    compute_cost: ComputeCost | None = Field(
        default=None, description="None: a version that kept none has had a part"
    )
    made_by: MadeByAll = ()
    pretrained: PretrainedFrom = None
    agreement: float | None = Field(
        default=None,
        description="in which share of the searched layers networks drawn from what was learned agree with "
        "the most probable one; None: the estimator draws none",
    )
    searched_on: str = Field(
        default="",
        exclude_if=operator.not_,
        description="of one search for several devices: the target that it was run for; expected latencies "
        "of its epochs are that one's. Empty: this run's own",
    )


class ConsideredNetwork(Record):
    """A probable network that should meet a target, measured whole."""

    choices: tuple[int, ...]
    target_ms: float
    log_probability: float
    predicted_ms: float
    measurement: LatencyMeasurement


class PrunedNetwork(Record):
    """A network cut out of the supernet with the weights it has there, and its accuracy with them."""

    name: str
    role: Role
    choices: tuple[int, ...]
    net: NetConfig
    target_ms: float
    predicted_ms: float
    supernet_accuracy_percent: float = Field(description="on validation images")
    weights: Blob


class PrunedNetworks(Document):
    """Output of ``prune``: the found network, random ones of equal predicted latency, and the front's.

    ``anchor`` was measured between the considered networks.
    """

    schema_version: int = 5
    target_ms: float
    considered: tuple[ConsideredNetwork, ...]
    anchor: ReferenceLatency
    found: PrunedNetwork
    randoms: tuple[PrunedNetwork, ...]
    front: tuple[PrunedNetwork, ...] = ()
    seconds: float = Field(description="device time of the considered networks")
    pretrained: PretrainedFrom = None
    compute_cost: ComputeCost | None = Field(
        default=None, description="of the pick, without the device's time"
    )
