"""Search: train the supernet and its architecture parameters together, under a latency target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from pipeline.stage import TOOL, Context, Stage
from stages.documents import LatencyModel, SearchResult
from stages.space.search_space import SearchSpace
from stages.nas.targets import RelativeTarget, Target, check_met, check_pick, feasible_ms, further_ms
from stages.data.fashion_mnist import DataConfig, check_fits, check_folder, dataset_identity


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
        """The target in ms on the measured device that is searched for. Raises InfeasibleTarget."""
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


@dataclass(frozen=True)
class Search(Stage):
    """ProxylessNAS with binarized paths (arXiv 1812.00332)."""

    name: ClassVar[str] = "search"
    version: ClassVar[int] = 4
    inputs: ClassVar[Mapping[str, str]] = {"latency": "latency"}
    after: ClassVar[tuple[str, ...]] = ("precheck",)
    output: ClassVar[type[SearchResult]] = SearchResult

    config: SearchConfig
    space: SearchSpace
    data: DataConfig
    seed: int
    use_at_least: float = field(default=0.0, metadata=TOOL)
    """Prune's: a target for which it will find no network is refused here, where nothing is trained yet."""
    prune_target_ms: float | None = field(default=None, metadata=TOOL)
    """``prune.target_ms``, for the same reason."""

    def environment(self) -> Mapping[str, str]:
        """The images."""
        return dataset_identity(self.data)

    def settings(self) -> dict[str, Any]:
        """Of several targets the first, as if it were the only one: the search does not see the others."""
        config = self.config
        if config.targets is not None:
            first = config.targets[0]
            key = "target" if isinstance(first, RelativeTarget) else "target_ms"
            config = config.model_copy(update={"targets": None, key: first})
        return {**super().settings(), "config": config.model_dump(mode="json")}

    def check(self) -> None:
        """Raises UsageError where the images do not fit the space, or are too few to learn from."""
        check_fits(self.data, self.space)
        images = self.data.images_to_train
        check_architecture_steps(self.config, images // min(self.config.batch_size, images))

    def check_targets(self, latency: LatencyModel) -> float:
        """The target to search for, in ms. Raises InfeasibleTarget for any one that no network will meet."""
        target_ms = self.config.target_for(latency)
        further_ms(self.config.further_targets, latency)  # told now, not when the search is done
        check_met(self.space, latency, target_ms, self.use_at_least)
        if self.prune_target_ms is not None:
            check_pick(self.space, latency, self.prune_target_ms, self.use_at_least)
        return target_ms

    def check_files(self) -> None:
        """Raises DatasetMissing where the images' folder does not hold what is read."""
        check_folder(self.data, "train")

    def estimate_seconds(self) -> float:
        """A guess for two cores of a desktop computer at the quick start's size."""
        work = sum(max(b.macs for b in layer.blocks if b) for layer in self.space.layers())
        images = (self.config.warmup_epochs + 1.6 * self.config.epochs) * 55_000
        return images * (4e-4 + work * 3e-11)

    def run(self, context: Context, **inputs: Any) -> SearchResult:
        """Search, or go on where a search was stopped.

        Raises UsageError (:meth:`check`) and InfeasibleTarget (one of the targets) before any work.
        """
        self.check()
        latency: LatencyModel = inputs["latency"]
        target_ms = self.check_targets(latency)
        fastest, slowest = latency.feasible_ms
        context.say(
            f"target {target_ms:.4g} ms; networks of the space take {fastest:.4g} to {slowest:.4g} ms."
        )
        if target_ms > slowest:
            context.warn(
                "every network of the space meets this target: a lower one would give a faster network."
            )
        from stages.nas.search_loop import run_search

        return run_search(
            self.config,
            self.space,
            self.data,
            self.seed,
            latency=latency,
            target_ms=target_ms,
            context=context,
        )
