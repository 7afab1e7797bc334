"""Prune: of every layer one path stays, so that the network meets the target; weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from pipeline.artifact import Record
from pipeline.stage import Context, Stage
from stages.documents import LatencyModel, PrunedNetworks, SearchResult
from stages.training.data import DataConfig, dataset_identity


class PruneConfig(Record):
    """How the one network is picked."""

    candidates: int = Field(
        5, ge=1, le=100, description="most probable networks under the target to judge on validation images; "
        "1 is the paper's rule"
    )  # fmt: skip
    use_at_least: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="share of the target that a candidate must use: unused time is lost accuracy",
    )
    recalibration_batches: int = Field(
        40, ge=1, description="batches of 128 training images for a candidate's own BN statistics"
    )


@dataclass(frozen=True)
class Prune(Stage):
    """The most probable networks under the target; the best of them on validation images."""

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {"search": "search", "latency": "latency"}
    output: ClassVar[type[PrunedNetworks]] = PrunedNetworks

    config: PruneConfig
    data: DataConfig
    seed: int

    def environment(self) -> Mapping[str, str]:
        """The images."""
        return dataset_identity(self.data)

    def estimate_seconds(self) -> float:
        """A guess for a desktop computer."""
        return 3.0 + 2.0 * self.config.candidates

    def run(self, context: Context, **inputs: Any) -> PrunedNetworks:
        """Pick, cut out, and draw the random network beside it."""
        search: SearchResult = inputs["search"]
        latency: LatencyModel = inputs["latency"]
        from stages.training.pick import pick_networks

        return pick_networks(
            self.config, self.data, self.seed, search=search, latency=latency, context=context
        )
