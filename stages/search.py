"""Search: train the supernet and its architecture parameters together, under a latency target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pipeline.artifact import document_bytes, sha256_hex
from pipeline.stage import TOOL, Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import check_fits
from stages.documents import LatencyModel, SearchResult
from stages.nas.config import SearchConfig, architecture_share, check_architecture_steps
from stages.nas.targets import RelativeTarget, TargetConfig, check_met, check_pick
from stages.nn.weights_source import weights_identity
from stages.space.search_space import SearchSpace
from stages.training.recipe import pass_seconds
from stages.verification.power import what_can_be_shown


@dataclass(frozen=True)
class Search(Stage):
    """ProxylessNAS with binarized paths (arXiv 1812.00332)."""

    name: ClassVar[str] = "search"
    version: ClassVar[int] = 11
    inputs: ClassVar[Mapping[str, str]] = {"latency": "latency"}
    after: ClassVar[tuple[str, ...]] = ("precheck",)
    output: ClassVar[type[SearchResult]] = SearchResult

    config: SearchConfig
    target: TargetConfig
    space: SearchSpace
    data: DataConfig
    seed: int
    precision: Literal["auto", "32", "bf16"] = field(default="auto", metadata={"section": "training"})

    def environment(self) -> Mapping[str, str]:
        """The images, and the weights that the supernet starts from."""
        return {**open_dataset(self.data).identity(), **weights_identity(self.space.pretrained)}

    def settings(self) -> dict[str, Any]:
        """Of the section ``target`` what is searched for; ``pick_ms`` is for a search that is there."""
        first = self.target.first
        searched = first.model_dump() if isinstance(first, RelativeTarget) else {"ms": first}
        others = self.target.model_dump(mode="json", include={"further", "front", "minimum_share"})
        return {**super().settings(), "target": searched | others}

    def check(self) -> None:
        """Raises UsageError where the images do not fit the space, or are too few to learn from."""
        check_fits(open_dataset(self.data), self.space)
        images = open_dataset(self.data).counts["train"]
        check_architecture_steps(self.config, images // min(self.config.batch_size, images))

    def check_targets(self, latency: LatencyModel) -> float:
        """The target to search for, in ms.

        Raises InfeasibleTargetError for any one that no network will meet, before anything is trained.
        """
        target_ms = self.target.searched_ms(latency)
        self.target.further_ms(latency)
        check_met(self.space, latency, target_ms, self.target.minimum_share)
        if self.target.pick_ms is not None:
            check_pick(self.space, latency, self.target.pick_ms, self.target.minimum_share)
        return target_ms

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("train")

    def estimate_seconds(self) -> float:
        """A guess for two cores of a desktop computer."""
        counts = open_dataset(self.data).counts
        share = architecture_share(self.config, counts["architecture"])
        passes = self.config.warmup_epochs + (1 + share) * self.config.epochs
        images = counts["train"]
        return passes * 1.2 * pass_seconds(images, self.space.network(self.space.middle_path()).macs)

    def run(self, context: Context, **inputs: Any) -> SearchResult:
        """Search, or go on where a search was stopped.

        Raises UsageError (:meth:`check`) and InfeasibleTargetError (one of the targets) before any work.
        """
        self.check()
        latency: LatencyModel = inputs["latency"]
        target_ms = self.check_targets(latency)
        fastest, slowest = latency.feasible_ms
        context.say(
            f"target {target_ms:.4g} ms; networks of the space take {fastest:.4g} to {slowest:.4g} ms."
        )
        context.say(what_can_be_shown(open_dataset(self.data).counts["test"]).sentence())
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
            targets_ms=self.target.all_ms(latency),
            minimum_share=self.target.minimum_share,
            context=context,
            precision=self.precision,
        )


@dataclass(frozen=True)
class SharedSearch(Search):
    """One search for several devices, as a device other than the first has it.

    Nothing is trained: supernet and evaluations are those of the first target's search, and probabilities
    are learned from them under this device's latency model.
    """

    shared: SearchResult | None = field(default=None, metadata=TOOL)
    """What the first target's search found."""
    searched_on: str = ""
    """What the first target is called."""

    @property
    def _shared(self) -> SearchResult:
        assert self.shared is not None, "made with the search that is shared"
        return self.shared

    def environment(self) -> Mapping[str, str]:
        """What the search was is in its document."""
        return {"search_sha256": sha256_hex(document_bytes(self._shared))}

    def estimate_seconds(self) -> float:
        """Learning from evaluations alone."""
        return 5.0

    def run(self, context: Context, **inputs: Any) -> SearchResult:
        """Learn this device's probabilities.

        Raises UsageError where the search has kept no evaluations, InfeasibleTargetError.
        """
        latency: LatencyModel = inputs["latency"]
        self.check_targets(latency)
        from stages.nas.across_hardware import search_for

        found = search_for(self._shared, self.searched_on, latency, self.target, self.seed, context)
        context.say(
            f"target {found.target_ms:.4g} ms; probabilities learned from the search on {self.searched_on}."
        )
        return found
