"""Pick one network from a searched supernet, and a random one of equal latency to hold against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from safetensors.torch import load

from nasflow.errors import InfeasibleTarget
from pipeline.stage import Context
from stages.documents import (
    ConsideredNetwork,
    LatencyModel,
    PrunedNetwork,
    PrunedNetworks,
    Role,
    SearchResult,
)
from stages.nn.blocks import to_channels_last
from stages.nn.network import Network, save_weights
from stages.nn.supernet import Supernet, recalibrate_bn
from stages.prune import PruneConfig
from stages.search_space import NetConfig
from stages.selection import best_paths, random_path_near
from stages.training.batches import Batches, derived_seed
from stages.training.data import DataConfig, load_images
from stages.training.optimisation import accuracy_percent, make_fabric
from stages.training.search_loop import price_candidates

BATCH_SIZE = 128


def pick_networks(
    config: PruneConfig,
    data: DataConfig,
    seed: int,
    *,
    search: SearchResult,
    latency: LatencyModel,
    context: Context,
) -> PrunedNetworks:
    """The pick among the most probable networks, and its random companion, with their weights."""
    return _Picker(config, data, seed, search, latency, context).pick()


@dataclass
class _Picker:
    config: PruneConfig
    data: DataConfig
    seed: int
    search: SearchResult
    latency: LatencyModel
    context: Context

    def __post_init__(self) -> None:
        self.device = make_fabric(self.seed).device
        self.supernet = Supernet(self.search.space)
        self.supernet.load_state_dict(load(self.context.store.read_bytes(self.search.supernet)))
        self.supernet.to(self.device)
        self.training = Batches(load_images(self.data, "train"), BATCH_SIZE, self.device)
        self.validation = Batches(load_images(self.data, "validation"), BATCH_SIZE, self.device)

    def pick(self) -> PrunedNetworks:
        architecture = price_candidates(self.search.space, self.latency)
        costs = [row.tolist() for row in architecture.block_ms]
        paths = self._most_probable(costs, architecture.fixed_ms)
        judged = [self._judge(place, path, len(paths)) for place, path in enumerate(paths)]
        best, network = max(judged, key=lambda pair: pair[0].validation_accuracy_percent)
        self.context.say(
            f"picked of {len(paths)} candidates: {best.predicted_ms:.4g} ms predicted "
            f"({best.predicted_ms / self.search.target_ms:.0%} of the target), "
            f"{best.validation_accuracy_percent:.2f} % on validation images with the supernet's weights."
        )
        random = random_path_near(
            costs,
            best.predicted_ms - architecture.fixed_ms,
            seed=derived_seed(self.seed, 1),
            other_than=best.choices,
        )
        return PrunedNetworks(
            target_ms=self.search.target_ms,
            considered=tuple(considered for considered, _ in judged),
            found=self._pruned("found", "found", best.choices, network),
            random=self._pruned("random", "random", random, self._extract(random)),
        )

    def _most_probable(self, costs_ms: Sequence[Sequence[float]], fixed_ms: float) -> list[tuple[int, ...]]:
        """Paths under the target that use enough of it. Raises InfeasibleTarget where there are none."""
        target_ms, (fastest_ms, slowest_ms) = self.search.target_ms, self.latency.feasible_ms
        # Of a target that every network meets, no network can use more than the slowest does.
        least_ms = self.config.use_at_least * min(target_ms, slowest_ms)
        try:
            return best_paths(
                self.search.log_probabilities,
                costs_ms,
                at_least_ms=least_ms - fixed_ms,
                at_most_ms=target_ms - fixed_ms,
                count=self.config.candidates,
            )
        except InfeasibleTarget as error:
            raise InfeasibleTarget(
                f"no network of space {self.search.space.name} takes between {least_ms:.4g} ms (the share "
                f"{self.config.use_at_least:g} of the target) and {target_ms:.4g} ms (the target); they take "
                f"{fastest_ms:.4g} to {slowest_ms:.4g} ms.",
                hint="Lower prune.use_at_least, or choose another target.",
            ) from error

    def _judge(self, place: int, path: tuple[int, ...], total: int) -> tuple[ConsideredNetwork, Network]:
        network = self._extract(path)
        accuracy = accuracy_percent(network, self.validation.in_order())
        self.context.progress(place + 1, total, "candidates", f"{accuracy:.2f} %")
        log_p = sum(row[choice] for row, choice in zip(self.search.log_probabilities, path, strict=True))
        considered = ConsideredNetwork(
            choices=path,
            log_probability=log_p,
            predicted_ms=self.latency.predict_ms(network.net),
            validation_accuracy_percent=accuracy,
        )
        return considered, network

    def _extract(self, path: Sequence[int]) -> Network:
        network = self.supernet.extract(path).to(self.device)
        to_channels_last(network)
        batches = self.training.training(derived_seed(self.seed, 2), 0)
        recalibrate_bn(network, (x for x, _ in islice(batches, self.config.recalibration_batches)))
        return network

    def _pruned(self, name: str, role: Role, path: tuple[int, ...], network: Network) -> PrunedNetwork:
        net: NetConfig = network.net
        return PrunedNetwork(
            name=name,
            role=role,
            choices=path,
            net=net,
            predicted_ms=self.latency.predict_ms(net),
            weights=self.context.store.put_bytes(save_weights(network), ".safetensors"),
        )
