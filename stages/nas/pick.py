"""Pick one network for each target from a searched supernet, and random ones to hold against the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from safetensors.torch import load

from android_bench.device import Device, RuntimeOptions
from nasflow.base.errors import InconclusiveError, InfeasibleTargetError
from pipeline.stage import Context
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    ComputeCost,
    ConsideredNetwork,
    LatencyModel,
    PrunedNetwork,
    PrunedNetworks,
    Role,
    SearchResult,
)
from stages.nas.candidate_times import CandidateTimer, CandidateTimes
from stages.nas.config import PruneConfig
from stages.nas.ranking import Path, Ranking
from stages.nas.targets import TargetConfig
from stages.nn.blocks import to_channels_last
from stages.nn.kept_statistics import keep_statistics
from stages.nn.network import Network, save_weights
from stages.nn.supernet import Supernet, recalibrate_bn
from stages.seeds import PickStream, derived_seed
from stages.space.equal_latency import TOLERANCE, equal_latency, random_networks_near
from stages.training.cost import ComputeClock
from stages.training.optimisation import Evaluation, evaluate
from stages.training.runtime import start_runtime

BATCH_SIZE = 128
COMPUTE_COST = "compute_cost"
FOUND: Role = "found"
FRONT: Role = "front"


def pick_networks(
    config: PruneConfig,
    target: TargetConfig,
    data: DataConfig,
    seed: int,
    *,
    search: SearchResult,
    latency: LatencyModel,
    device: Device,
    runtime: RuntimeOptions,
    context: Context,
) -> PrunedNetworks:
    """The most probable network of each target, and random companions, with their weights.

    Raises InfeasibleTargetError, InconclusiveError, DeviceError.
    """
    return _Picker(config, target, data, seed, search, latency, device, runtime, context).pick()


@dataclass
class _Picker:
    config: PruneConfig
    target: TargetConfig
    data: DataConfig
    seed: int
    search: SearchResult
    latency: LatencyModel
    device: Device
    runtime: RuntimeOptions
    context: Context

    def __post_init__(self) -> None:
        self.torch_device = start_runtime(self.seed).device
        self.supernet = Supernet(self.search.space)
        if self.search.pretrained is not None:
            keep_statistics(self.supernet)
        self.supernet.load_state_dict(load(self.context.store.read_bytes(self.search.supernet)))
        self.supernet.to(self.torch_device)
        to_channels_last(self.supernet)
        self.training = open_dataset(self.data).load("train").batches(BATCH_SIZE, self.torch_device)
        self.choice = open_dataset(self.data).load("choice").batches(BATCH_SIZE, self.torch_device)
        self.ranking = Ranking(self.target.minimum_share, self.seed, self.search, self.latency, self.context)
        self.target_ms = self.target.pick_ms or self.search.target_ms
        self.evaluated: dict[Path, tuple[Evaluation, Network]] = {}
        self.compute_cost = self._compute_cost()
        self._keep_cost()

    def _compute_cost(self) -> ComputeClock:
        """A clock that goes on behind the laps of a killed run."""
        clock, scratch = ComputeClock(self.torch_device), self.context.scratch
        for lap in scratch.rows(COMPUTE_COST):
            clock.add(ComputeCost.model_validate(lap))
        return clock

    def _keep_cost(self) -> None:
        lap = self.compute_cost.lap()
        if lap is not None and self.compute_cost.known:
            self.context.scratch.append(COMPUTE_COST, lap.model_dump())

    def pick(self) -> PrunedNetworks:
        targets_ms = self._targets_ms()
        ranked: dict[float, list[Path]] = {}
        for target_ms in targets_ms:
            with self._optional(target_ms):
                ranked[target_ms] = self.ranking.best(target_ms, self.config.candidates)
        self._keep_cost()
        times = CandidateTimer(
            self.search.space,
            self.latency,
            self.config,
            self.device,
            self.runtime,
            self.seed,
            self.context,
        ).measure(ranked)
        self.compute_cost.skip()  # that was the device's time
        considered: list[ConsideredNetwork] = []
        picked: dict[tuple[str, ...], PrunedNetwork] = {}
        for target_ms, paths in ranked.items():
            with self._optional(target_ms):
                best, about = self._consider(target_ms, paths, times)
                considered += about
                # Two targets may lead to the same network, which is then there already.
                if self.ranking.blocks(best) not in picked:
                    name, role = (f"front_{len(picked)}", FRONT) if picked else ("found", FOUND)
                    picked[self.ranking.blocks(best)] = self._pruned(name, role, best, target_ms)
        found, *front = picked.values()
        randoms = self._randoms(found)
        self._tell(found, considered)
        reference = self.latency.reference
        return PrunedNetworks(
            target_ms=self.target_ms,
            considered=tuple(considered),
            anchor=reference.model_copy(update={"measurement": times.anchor}),
            found=found,
            randoms=randoms,
            front=tuple(front),
            seconds=times.measured.seconds,
            compute_cost=self.compute_cost.total(),
            pretrained=self.search.pretrained,
        )

    def _targets_ms(self) -> tuple[float, ...]:
        """The one to pick for, and the others that were searched for; each once."""
        _, *others = self.target.all_ms(self.latency)
        return tuple(dict.fromkeys((self.target_ms, *others)))

    @contextmanager
    def _optional(self, target_ms: float) -> Iterator[None]:
        """Only the first target must get a network: another one without is told of."""
        try:
            yield
        except (InfeasibleTargetError, InconclusiveError) as error:
            if target_ms == self.target_ms:
                raise
            self.context.warn(f"no network for the further target {target_ms:.4g} ms: {error.message}")

    def _consider(
        self, target_ms: float, paths: Sequence[Path], times: CandidateTimes
    ) -> tuple[Path, list[ConsideredNetwork]]:
        """The one to keep, and all candidates of a target.

        Raises InfeasibleTargetError, and InconclusiveError where it cannot be told whether one keeps it.
        """
        keep = [path for path in paths if times.timed(path).ms <= target_ms]
        if not keep:
            raise times.no_network(paths, target_ms, self.device.info().model)
        considered = [
            ConsideredNetwork(
                choices=path,
                target_ms=target_ms,
                log_probability=self.ranking.log_probability(path, target_ms),
                predicted_ms=self.latency.predict_ms(self.search.space.network(path)),
                measurement=times.of(path),
            )
            for path in paths
        ]
        return keep[0], considered

    def _evaluate(self, path: Path) -> tuple[Evaluation, Network]:
        """On all validation images, with the supernet's weights and the network's own statistics.

        Those of pretrained weights were kept in the search, and are kept here.
        """
        if path not in self.evaluated:
            network = self.supernet.extract(path).to(self.torch_device)
            to_channels_last(network)
            if self.search.pretrained is None:
                batches = self.training.training(derived_seed(self.seed, PickStream.RECALIBRATION), 0)
                recalibrate_bn(network, (x for x, _ in islice(batches, self.config.recalibration_batches)))
            self.evaluated[path] = evaluate(network, self.choice.in_order()), network
            self._keep_cost()
        return self.evaluated[path]

    def _randoms(self, found: PrunedNetwork) -> tuple[PrunedNetwork, ...]:
        """Networks of the found one's predicted latency: ``random``, ``random_2``, ..."""
        paths = random_networks_near(
            self.ranking.keys,
            self.ranking.costs_ms,
            found.predicted_ms,
            fixed_ms=self.ranking.fixed_ms,
            count=self.config.random_networks,
            seed=derived_seed(self.seed, PickStream.RANDOM_NETWORKS),
            other_than=found.choices,
        )
        randoms = tuple(
            self._pruned(f"random_{number}" if number > 1 else "random", "random", path, found.target_ms)
            for number, path in enumerate(paths, start=1)
        )
        ratios = [network.predicted_ms / found.predicted_ms for network in randoms]
        if beyond := [ratio for ratio in ratios if not equal_latency(ratio)]:
            self.context.warn(
                f"{len(randoms) - len(beyond)} other networks of the space are predicted to take what the "
                f"found one does, within {100 * TOLERANCE:g} %, and prune.random_networks is {len(randoms)}: "
                f"the next ones, of {min(beyond):.2f} to {max(beyond):.2f} times its latency, join them, and "
                "nothing will be concluded about the search and chance."
            )
        return randoms

    def _pruned(self, name: str, role: Role, path: Path, target_ms: float) -> PrunedNetwork:
        evaluation, network = self._evaluate(path)
        return PrunedNetwork(
            name=name,
            role=role,
            choices=path,
            net=network.net,
            target_ms=target_ms,
            predicted_ms=self.latency.predict_ms(network.net),
            supernet_accuracy_percent=evaluation.accuracy_percent,
            weights=self.context.store.put_bytes(save_weights(network), ".safetensors"),
        )

    def _tell(self, found: PrunedNetwork, considered: Sequence[ConsideredNetwork]) -> None:
        own = [c for c in considered if c.target_ms == found.target_ms]
        times: Mapping[Path, float] = {c.choices: c.measurement.median_ms for c in own}
        over = sum(ms > found.target_ms for ms in times.values())
        self.context.say(
            f"kept the most probable network that keeps the target ({len(own)} measured, {over} above it): "
            f"{times[found.choices]:.4g} ms measured, {found.predicted_ms:.4g} ms predicted "
            f"({found.predicted_ms / found.target_ms:.0%} of the target), "
            f"{found.supernet_accuracy_percent:.2f} % on validation images with the supernet's weights."
        )
