"""Prune: of every layer one path stays, so that the network meets the target; weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from android_bench.device import Device, RuntimeOptions
from pipeline.stage import TOOL, Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.documents import LatencyModel, PrunedNetworks, SearchResult
from stages.nas.config import PruneConfig
from stages.nas.targets import TargetConfig, check_pick
from stages.space.equal_latency import check_others
from stages.space.search_space import SearchSpace


@dataclass(frozen=True)
class Prune(Stage):
    """The most probable networks under the target, measured whole; the first that keeps it is kept."""

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 15
    inputs: ClassVar[Mapping[str, str]] = {"search": "search", "latency": "latency"}
    output: ClassVar[type[PrunedNetworks]] = PrunedNetworks

    config: PruneConfig
    target: TargetConfig
    space: SearchSpace
    data: DataConfig
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)

    def settings(self) -> dict[str, Any]:
        """Of the section ``target`` what was not searched for."""
        searched = {"ms", "relative_to", "ratio"}
        return {**super().settings(), "target": self.target.model_dump(mode="json", exclude=searched)}

    def environment(self) -> Mapping[str, str]:
        """The images, and the device that candidates are measured on."""
        return {**self.device.info().identity(), **open_dataset(self.data).identity()}

    def check(self) -> None:
        """Raises UsageError where the space has too few networks to draw the random ones from."""
        check_others(self.space.different_networks - 1, self.config.random_networks)

    def check_targets(self, latency: LatencyModel) -> tuple[float, ...]:
        """The further targets, in ms. Raises InfeasibleTargetError for any one that no network will meet."""
        if self.target.pick_ms is not None:
            check_pick(self.space, latency, self.target.pick_ms, self.target.minimum_share)
        return self.target.further_ms(latency)

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("train")

    def estimate_seconds(self) -> float:
        """A guess for two cores of a desktop computer."""
        measured = 2.0 * (self.config.candidates * self._targets + self.config.random_networks)
        return self.device_seconds()[0] + 3.0 + measured

    def device_seconds(self) -> tuple[float, float]:
        """The candidates of all targets, as if each layer took its middle one."""
        middle = self.space.network(self.space.middle_path()).macs
        models = [middle] * 2 * self.config.candidates * self._targets
        seconds = self.config.estimate_seconds(models, middle, self.device.overhead, in_units=True)
        return seconds, self.config.most_seconds(seconds)

    @property
    def _targets(self) -> int:
        return 1 + len(self.target.further) + self.target.front

    @property
    def most_networks(self) -> int:
        """One for each target, and the random ones; fewer where targets share a network, or have none."""
        return self._targets + self.config.random_networks

    def run(self, context: Context, **inputs: Any) -> PrunedNetworks:
        """Rank, measure, cut out, and draw the random networks beside it.

        Raises InfeasibleTargetError, InconclusiveError, DeviceError.
        """
        search: SearchResult = inputs["search"]
        latency: LatencyModel = inputs["latency"]
        self.check_targets(latency)
        from stages.nas.pick import pick_networks

        return pick_networks(
            self.config,
            self.target,
            self.data,
            self.seed,
            search=search,
            latency=latency,
            device=self.device,
            runtime=self.runtime,
            context=context,
        )
