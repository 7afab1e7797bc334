"""How a space is searched, and how the one network is picked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from stages.measurement.config import MeasurementConfig
from stages.training.recipe import PRETRAINED_RATE


class SearchConfig(Record):
    """How the space is searched. Epochs are passes over the training images."""

    warmup_epochs: int = Field(
        1,
        ge=0,
        description="passes over the images in which only the weights learn, every path equally often "
        "(FairNAS, arXiv 1907.01845)",
    )
    epochs: int = Field(
        2, ge=1, description="passes in which weights and architecture learn in turn: more is better"
    )
    fair_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of their weight steps that train every path equally often; the others draw paths "
        "by probability; 0 is the paper's rule, under which paths of low probability hardly learn",
    )
    batch_size: int = Field(64, ge=2, le=4096, description="training images per step of the weights")
    learning_rate: float = Field(
        0.025,
        gt=0,
        le=10,
        description="of the weights; falls to zero along a cosine. A quarter of a training's: in a short "
        "search a faster one leaves less loss, but a worse order of networks",
    )
    pretrained_rate: float = Field(
        PRETRAINED_RATE,
        gt=0,
        le=10,
        description="in its place, and the warm-up's, where the space starts from pretrained weights: these "
        "learn by AdamW, and their batch normalisation keeps its statistics",
    )
    warmup_learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        examples=[0.1],
        description="of the weights in the warm-up, with a cosine of its own; unset: one cosine over both",
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Nesterov momentum of the weights; AdamW, by which pretrained ones learn, takes none",
    )
    weight_decay: float = Field(
        4e-5,
        ge=0,
        le=1,
        description="on the weights of convolutions and the classifier; of pretrained ones it is 0.01",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of each label that is spread over all classes"
    )
    distillation: Literal["none", "in_place"] = Field(
        "none",
        exclude_if=lambda distillation: distillation == "none",
        description="how the supernet learns: none (one path a step, from labels), or in_place (three paths "
        "a step: the largest from labels, the smallest and the sampled one from its answers; BigNAS, arXiv "
        "2003.11142; a step takes about three times as long)",
    )
    architecture_every: int = Field(4, ge=1, description="weight steps between two steps of the architecture")
    architecture_batch_size: int = Field(
        128, ge=2, le=4096, description="validation images per step of the architecture"
    )
    estimator: Literal["posterior", "window", "two_path", "reinforce"] = Field(
        "posterior",
        description="how probabilities are learned: posterior (of a few paths a step, evaluated on the same "
        "images, it is learned what candidates and pairs of them are worth; a probability is how often "
        "networks drawn from what is known have a candidate, and in the end mostly what the best one has), "
        "window (REINFORCE among the networks of the target's latency), or the paper's two, in which "
        "latency has a price: two_path (its section 3.2.1), reinforce (3.3.1)",
    )
    paths_per_step: int = Field(
        4,
        ge=2,
        le=100,
        description="whole paths that an architecture step evaluates; two_path compares two paths of each "
        "layer instead",
    )
    window_learning_rate: float = Field(
        0.1, gt=0, le=10, description="of the estimator window: Adam, betas (0, 0.999)"
    )
    architecture_learning_rate: float = Field(
        0.03, gt=0, le=10, description="of two_path and reinforce: Adam, betas (0, 0.999)"
    )
    multiplier_rate: float = Field(
        0.03,
        ge=0,
        le=10,
        description="two_path and reinforce: how fast the latency multiplier follows the relative distance "
        "from the target; 0, and 0 of multiplier_damping: latency does not count",
    )
    multiplier_damping: float = Field(
        3.0,
        ge=0,
        le=100,
        description="the multiplier's immediate answer to that distance; prevents overshoot",
    )
    multiplier_limit: float = Field(
        3.0, gt=0, description="largest absolute value of the multiplier's integral part"
    )
    anneal_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="two_path and reinforce: share of the architecture steps over which the target falls "
        "from the space's latency to its value",
    )
    baseline_decay: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="reinforce: decay of the moving average of rewards that each reward is compared with",
    )


TWO_PATHS_OVER_WEIGHTS = 1.2
"""Time of an image in a two-path step over one in a step of the weights (``benchmarks.search_step``)."""
FORWARD_OVER_WEIGHTS = 1 / 3
"""The same of one path's forward pass: a backward pass takes about two."""


def architecture_cost(config: SearchConfig) -> float:
    """Time of an image in a step of the architecture, over that of one in a step of the weights."""
    if config.estimator == "two_path":
        return TWO_PATHS_OVER_WEIGHTS
    return FORWARD_OVER_WEIGHTS * config.paths_per_step


def architecture_share(config: SearchConfig, images: int) -> float:
    """What the architecture's steps add to an epoch of weight steps, where it has so many images."""
    batch = min(config.architecture_batch_size, images)
    return architecture_cost(config) * batch / (config.batch_size * config.architecture_every)


def check_architecture_steps(config: SearchConfig, steps: int) -> None:
    """Raises UsageError where an epoch of ``steps`` weight steps would hold no architecture step."""
    if config.architecture_every > steps:
        raise UsageError(
            f"search.architecture_every is {config.architecture_every}, but an epoch has only {steps} steps: "
            "no architecture would be learned.",
            hint="Lower it, lower search.batch_size, or use more images (data.train_images).",
        )


def check_shared(config: SearchConfig) -> None:
    """Raises UsageError where a search keeps nothing that other devices' networks can be chosen by."""
    if config.estimator in ("two_path", "reinforce"):  # a gradient is all that they make of an evaluation
        raise without_evaluations(config.estimator)


def without_evaluations(estimator: str) -> UsageError:
    """The error for a search that several devices cannot share."""
    return UsageError(
        f"the search by {estimator} keeps no evaluations, which other devices' networks are chosen by.",
        hint="Search by another estimator: --set search.estimator=posterior.",
    )


class PruneConfig(MeasurementConfig):
    """How the one network is kept, and how those that it is chosen from are timed."""

    candidates: int = Field(
        3,
        ge=1,
        le=100,
        description="networks, the most probable ones under the target, that are measured on the device: the "
        "most probable of those that keep the target there is the one",
    )
    random_networks: int = Field(
        1,
        ge=0,
        le=100,
        description="random networks of the found one's predicted latency (within 3 %), trained and measured "
        "in the same way: they show what the search adds to chance; five or more for a narrow interval",
    )
    recalibration_batches: int = Field(
        40,
        ge=1,
        description="batches of 128 training images for a network's batch normalisation statistics before it "
        "is evaluated",
    )
