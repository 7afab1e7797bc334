"""How a space is searched, and how the one network is picked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from stages.documents import LatencyModel
from stages.measurement.config import MeasuringConfig
from stages.nas.targets import RelativeTarget, Target, feasible_ms


class SearchConfig(Record):
    """How the space is searched. Epochs are passes over the training images."""

    target_ms: float | None = Field(None, gt=0, description="latency target in milliseconds")
    target: RelativeTarget | None = Field(None, description="or relative to MobileNetV2 (the default)")
    targets: tuple[Target, ...] | None = Field(
        None,
        min_length=1,
        description="or several: the first is searched for, the others get a network from the same supernet",
    )
    warmup_epochs: int = Field(
        1, ge=0, description="weights alone first, every candidate equally often (FairNAS, arXiv 1907.01845)"
    )
    epochs: int = Field(2, ge=1, description="then weights and architecture in turn")
    fair_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the search's weight steps that train every path equally often, whatever its "
        "probability; 0 is the paper's rule",
    )
    batch_size: int = Field(64, ge=2, le=4096, description="images per weight step")
    learning_rate: float = Field(0.1, gt=0, le=10, description="of the weights, cosine to zero")
    warmup_learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="of the weights in the warm-up, with a cosine of its own; unset: one cosine over both",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum of the weights")
    weight_decay: float = Field(4e-5, ge=0, le=1, description="on convolution and dense weights only")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the weights' loss")
    architecture_every: int = Field(4, ge=1, description="weight steps between two architecture steps")
    architecture_batch_size: int = Field(
        128, ge=2, le=4096, description="validation images per architecture step"
    )
    architecture_learning_rate: float = Field(0.03, gt=0, le=10, description="Adam's, with betas (0, 0.999)")
    gradient: Literal["two_path", "reinforce"] = Field(
        "two_path",
        description="how the architecture's gradient is estimated: the paper's section 3.2.1 or 3.3.1",
    )
    draws_per_step: int = Field(
        4, ge=1, le=100, description="reinforce: networks drawn in an architecture step"
    )
    baseline_decay: float = Field(
        0.95, ge=0, lt=1, description="reinforce: how slowly the reward that counts as usual follows"
    )
    price_rate: float = Field(
        0.03,
        ge=0,
        le=10,
        description="how fast the latency multiplier follows a miss; 0, and 0 of price_damping: latency has "
        "no price",
    )
    price_damping: float = Field(
        3.0, ge=0, le=100, description="the multiplier's direct answer to a miss; keeps it from overshooting"
    )
    price_limit: float = Field(3.0, gt=0, description="largest absolute value of the multiplier's slow part")
    anneal_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the architecture steps in which the target comes down to its value",
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        given = [key for key in ("target", "target_ms", "targets") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(
                "give one of target_ms, target and targets, not both or all; there are "
                f"{' and '.join(given)}: unset what is not meant, as with --set search.{given[0]}=null"
            )
        return self

    @property
    def further_targets(self) -> tuple[Target, ...]:
        """Those that are not searched for, but get a network from the same supernet."""
        return (self.targets or ())[1:]

    def target_for(self, latency: LatencyModel) -> float:
        """The target in ms on the measured device that is searched for. Raises InfeasibleTargetError."""
        if self.target_ms is not None:
            return feasible_ms("search.target_ms", self.target_ms, latency)
        if self.targets is not None:
            return feasible_ms("search.targets, number 1", self.targets[0], latency)
        return feasible_ms("search.target", self.target or RelativeTarget(), latency)


def check_architecture_steps(config: SearchConfig, steps: int) -> None:
    """Raises UsageError where an epoch of ``steps`` weight steps would hold no architecture step."""
    if config.architecture_every > steps:
        raise UsageError(
            f"search.architecture_every is {config.architecture_every}, but an epoch has only {steps} steps: "
            "no architecture would be learned.",
            hint="Lower it, lower search.batch_size, or use more images (data.train_images).",
        )


class PruneConfig(MeasuringConfig):
    """How the one network is picked, and how those that it is picked from are timed."""

    target_ms: float | None = Field(
        None,
        gt=0,
        description="pick for this target, in milliseconds, in place of the one that was searched for",
    )
    rank_by: Literal["value", "probability"] = Field(
        "value",
        description="value: what candidates add, estimated by judging many networks in the supernet; "
        "probability: the search's own, the paper's rule",
    )
    evaluations: int = Field(
        600, ge=50, le=100_000, description="networks evaluated to estimate values, each on one batch"
    )
    shortlist: int = Field(
        15,
        ge=0,
        le=1000,
        description="best networks by those values to evaluate on many batches; the best of them are "
        "measured; 0: measure the best by value",
    )
    candidates: int = Field(
        5,
        ge=1,
        le=100,
        description="best-ranked networks under the target to evaluate on all validation images; 1 and "
        "rank_by probability is the paper's rule",
    )
    judge_by: Literal["loss", "accuracy"] = Field(
        "loss",
        description="what the last choice among them looks at; accuracy is the paper's, and noisier",
    )
    trial_epochs: int = Field(
        0,
        ge=0,
        le=1000,
        description="first train the measured ones for so many epochs from fresh weights, and choose by "
        "that; 0: choose by the supernet's weights",
    )
    front: int = Field(
        0,
        ge=0,
        le=100,
        description="give so many further targets, spread over the space's latencies, a network each",
    )
    random_networks: int = Field(
        1,
        ge=0,
        le=100,
        description="draw so many networks at random, all of the found one's predicted latency (within "
        "3 %), and train and measure them as it is: what the search adds to chance; five or more for a sure "
        "interval",
    )
    use_at_least: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="share of the target that a candidate must use: unused time is lost accuracy",
    )
    recalibration_batches: int = Field(
        40, ge=1, description="batches of 128 training images for a candidate's own BN statistics"
    )
