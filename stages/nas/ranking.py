"""Rank a space's networks by the probabilities that a search learned for a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING

from nasflow.base.errors import InfeasibleTargetError
from pipeline.artifact import Blob
from pipeline.stage import Context
from stages.documents import LatencyModel, PathEvaluations, SearchResult
from stages.nas.rules.posterior import LAST_NETWORKS, shares_of_one_target
from stages.nas.solver import best_paths
from stages.nas.targets import latency_window, path_costs_ms
from stages.seeds import PickStream, derived_seed

if TYPE_CHECKING:
    from stages.nas.path_values import Evaluations

Path = tuple[int, ...]
Rows = Sequence[Sequence[float]]
_SAME = 1e-9  # relative: a target in milliseconds that was computed twice


@dataclass
class Ranking:
    """For each target the most probable networks, exactly."""

    minimum_share: float
    seed: int
    search: SearchResult
    latency: LatencyModel
    context: Context

    def __post_init__(self) -> None:
        self.costs_ms, self.fixed_ms = path_costs_ms(self.search.space, self.latency)
        self.keys = self.search.space.keys()
        self._learned: dict[float, Rows] = {}

    def log_probabilities(self, target_ms: float) -> Rows:
        """Of every layer's candidates, for a target.

        As the search learned them; for a target that it did not have, learned now from its evaluations. Where
        the estimator keeps none, those of the first target, and a warning.
        """
        search = self.search
        known = {search.target_ms: search.log_probabilities}
        known |= {further.target_ms: further.log_probabilities for further in search.further}
        for of_ms, rows in known.items():
            if isclose(of_ms, target_ms, rel_tol=_SAME):
                return rows
        return self.learned(target_ms)

    def learned(self, target_ms: float) -> Rows:
        """For a target on the latency model's device, from the search's evaluations, whatever it had."""
        if target_ms not in self._learned:
            self._learned[target_ms] = self._learn(target_ms)
        return self._learned[target_ms]

    def _learn(self, target_ms: float) -> Rows:
        search = self.search
        if search.evaluations is None:
            self.context.warn(
                f"the search by {search.estimator} has no probabilities for {target_ms:.4g} ms: those for "
                f"{search.target_ms:.4g} ms rank its networks. Search for that target for better ones."
            )
            return search.log_probabilities
        seen = kept_evaluations(search.evaluations, self.context)
        window = latency_window(search.space, self.latency, target_ms, self.minimum_share)
        seed = derived_seed(self.seed, PickStream.PROBABILITIES)
        sizes = [len(row) for row in self.costs_ms]
        rows = shares_of_one_target(seen, sizes, window, seed, networks=LAST_NETWORKS)
        return [row.tolist() for row in rows]

    def log_probability(self, path: Path, target_ms: float) -> float:
        """Of a path: the sum of its candidates'."""
        rows = self.log_probabilities(target_ms)
        return sum(row[choice] for row, choice in zip(rows, path, strict=True))

    def best(self, target_ms: float, count: int) -> list[Path]:
        """The most probable under the target, and those under one that is lower by the prediction's interval.

        The latter step in where the device takes longer than predicted; what is probable under a lower limit
        is learned for that limit. A network stands there once. Raises InfeasibleTargetError where there is
        none.
        """
        careful_ms = target_ms / (1 + self.latency.interval_percent / 100)
        paths: list[Path] = []
        refused: InfeasibleTargetError | None = None
        for limit_ms in (target_ms, careful_ms):
            try:
                paths += self._under(target_ms, limit_ms, count)
            except InfeasibleTargetError as error:  # one of the two lists is enough
                refused = refused or error
        if refused is not None and not paths:
            raise refused
        distinct: dict[tuple[str, ...], Path] = {}
        for path in paths:
            distinct.setdefault(self.blocks(path), path)
        return list(distinct.values())

    def _under(self, target_ms: float, limit_ms: float, count: int) -> list[Path]:
        """The most probable that use enough of a limit. Raises InfeasibleTargetError."""
        own = limit_ms == target_ms or self.search.evaluations is None
        rows = self.log_probabilities(target_ms) if own else self.learned(limit_ms)
        window = latency_window(self.search.space, self.latency, limit_ms, self.minimum_share)
        try:
            return best_paths(
                rows,
                self.costs_ms,
                at_least_ms=window.least_ms,
                at_most_ms=window.most_ms,
                count=count,
                identity=self.blocks,
            )
        except InfeasibleTargetError as error:
            fastest_ms, slowest_ms = self.latency.feasible_ms
            raise InfeasibleTargetError(
                f"no network of space {self.search.space.name} takes between "
                f"{window.least_ms + self.fixed_ms:.4g} ms (the share {self.minimum_share:g} of the target) "
                f"and {limit_ms:.4g} ms (the target); they take {fastest_ms:.4g} to {slowest_ms:.4g} ms.",
                hint="Lower target.minimum_share, or choose another target.",
            ) from error

    def blocks(self, path: Path) -> tuple[str, ...]:
        """What a path's network is made of: skips at different places may give the same network."""
        taken = (row[choice] for row, choice in zip(self.keys, path, strict=True))
        return tuple(key for key in taken if key is not None)


def kept_evaluations(blob: Blob, context: Context) -> Evaluations:
    """What a search has kept, as the rules have it."""
    import numpy as np

    from stages.nas.path_values import Evaluations

    kept = PathEvaluations.model_validate_json(context.store.read_bytes(blob))
    return Evaluations(
        np.array(kept.choices, dtype=np.int64),
        np.array(kept.value),
        np.array(kept.step, dtype=np.int64),
        np.array(kept.noise),
    )
