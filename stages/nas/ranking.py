"""Rank a space's networks by a searched supernet, within a latency target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasflow.base.errors import InfeasibleTargetError
from pipeline.stage import Context
from stages.documents import LatencyModel, SearchResult
from stages.nas.config import PruneConfig
from stages.nas.evaluation import SupernetEvaluator, explore_supernet
from stages.nas.path_values import PathValues, values_of_parts
from stages.nas.solver import best_by_value
from stages.nas.targets import bounds_ms, path_costs_ms
from stages.seeds import PickStream, derived_seed

if TYPE_CHECKING:
    from stages.nas.path_values import Integers

Path = tuple[int, ...]


@dataclass
class Ranking:
    """Values of a space's networks, and for each target the best by them.

    ``keep_cost`` is called where a lap of work is done.
    """

    config: PruneConfig
    minimum_share: float
    seed: int
    search: SearchResult
    latency: LatencyModel
    evaluator: SupernetEvaluator
    context: Context
    keep_cost: Callable[[], None]

    def __post_init__(self) -> None:
        self.costs_ms, self.fixed_ms = path_costs_ms(self.search.space, self.latency)
        self.keys = self.search.space.keys()

    def explored(self, targets_ms: Sequence[float]) -> tuple[PathValues, Integers | None]:
        """What the networks are ranked by, and those that were evaluated for it."""
        if self.config.rank_by == "probability":
            return values_of_parts(self.search.log_probabilities), None
        explored = explore_supernet(
            self.evaluator,
            self.costs_ms,
            [target_ms - self.fixed_ms for target_ms in targets_ms],
            budget=self.config.evaluations,
            seed=derived_seed(self.seed, PickStream.EXPLORATION),
            every_few=self.keep_cost,
        )
        return explored.values, explored.paths_NL

    def best(self, values: PathValues, known_NL: Integers | None, target_ms: float) -> list[Path]:
        """The best under the target, and those under a target that is lower by the prediction's interval.

        The latter step in where the device takes longer than predicted. A network stands there once, with the
        better of its paths. Raises InfeasibleTargetError where there is none.
        """
        careful_ms = target_ms / (1 + self.latency.interval_percent / 100)
        paths: list[Path] = []
        refused: InfeasibleTargetError | None = None
        for limit_ms in (target_ms, careful_ms):
            try:
                paths += self._under(values, known_NL, limit_ms)
            except InfeasibleTargetError as error:  # one of the two lists is enough
                refused = refused or error
        if refused is not None and not paths:
            raise refused
        distinct: dict[tuple[str, ...], Path] = {}
        for path in paths:
            distinct.setdefault(self.blocks(path), path)
        return list(distinct.values())

    def _under(self, values: PathValues, known_NL: Integers | None, limit_ms: float) -> list[Path]:
        """Well-ranked paths within a limit that use enough of it. Raises InfeasibleTargetError."""
        fastest_ms, slowest_ms = self.latency.feasible_ms
        least_ms, most_ms = bounds_ms(limit_ms, self.minimum_share, self.latency)
        shortlist = self.config.shortlist if self.config.rank_by == "value" else 0
        bounds = (least_ms - self.fixed_ms, most_ms - self.fixed_ms)
        try:
            paths = best_by_value(
                values,
                self.costs_ms,
                at_least_ms=bounds[0],
                at_most_ms=bounds[1],
                count=max(shortlist, self.config.candidates),
                seed=derived_seed(self.seed, PickStream.SHORTLIST),
                known_NL=known_NL,
                identity=self.blocks,
            )
        except InfeasibleTargetError as error:
            raise InfeasibleTargetError(
                f"no network of space {self.search.space.name} takes between {least_ms:.4g} ms (the share "
                f"{self.minimum_share:g} of the target) and {limit_ms:.4g} ms (the target); they take "
                f"{fastest_ms:.4g} to {slowest_ms:.4g} ms.",
                hint="Lower target.minimum_share, or choose another target.",
            ) from error
        if shortlist:
            paths = sorted(paths, key=self.evaluator.mean_value, reverse=True)
            self.keep_cost()
        return paths[: self.config.candidates]

    def blocks(self, path: Path) -> tuple[str, ...]:
        """What a path's network is made of: skips at different places may give the same network."""
        taken = (row[choice] for row, choice in zip(self.keys, path, strict=True))
        return tuple(key for key in taken if key is not None)
