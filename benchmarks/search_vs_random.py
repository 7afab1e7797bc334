"""Do the learned probabilities find better networks than chance? Held against every network of small spaces.

Every network of a space is trained (:mod:`benchmarks.tabular_space`), so what a pick is worth is known. A
pick is the most probable path under a target, for the benchmark's target and seven others. There are twenty
supernets of each space; on each all kinds of search learn side by side (:mod:`benchmarks._tabular_search`):
the product's for all targets at once, it with all of its steps for the first one, and so for each of them;
the estimator ``window`` in the first two ways; the paper's two. Then what must *not* work: losses that are
noise (blind), validation labels that are shuffled, probabilities whose candidates are exchanged. And a rival:
as much computing spent on training random networks of the first target, of which the best on validation
images is taken.

Latencies within 3 % are called equal, as everywhere. The bars were set on a ruler of 5 %, and are held
against that one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from benchmarks._tabular import SPACES, Choices, Tabular
from benchmarks._tabular_ruler import (
    CONTROLS,
    MINIMUM_SHARE,
    PERMUTED,
    Ruler,
    control_bars,
    interval,
    scores,
    targets_ms,
)
from benchmarks._tabular_search import ESTIMATORS, KINDS, OWN_TARGETS, PICK, SEARCH, Found, search_once
from stages.prune import Prune
from stages.search import Search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SEEDS, QUICK_SEEDS = 20, 2
PERMUTATIONS = 50  # for each seed
DRAWS = 10_000  # rivals
LOW = 60.0  # percentile
MEAN, MEAN_LOWER_END, MOST_LOW = 88.0, 82.0, 2  # of the search; the last for twenty supernets


@dataclass(frozen=True)
class Held:
    """Picks of one kind against all networks of their latency.

    ``picks``: of each seed some sets, each with a pick for every target. ``percentiles``: of each seed and
    target the mean over sets.
    """

    picks: Sequence[Sequence[Sequence[Choices]]]
    ruler: Ruler
    percentiles: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        known: dict[tuple[Choices, float], float] = {}
        for pick, target_ms in dict.fromkeys(self._all_picks()):
            known[pick, target_ms] = 100 * self.ruler.beaten_share(pick, target_ms)
        targets = self.ruler.targets_ms
        percentiles = [
            [
                sum(known[pick, target_ms] for pick in of_target) / len(of_target)
                for target_ms, of_target in zip(targets, zip(*sets, strict=True), strict=True)
            ]
            for sets in self.picks
        ]
        object.__setattr__(self, "percentiles", percentiles)

    def _all_picks(self) -> list[tuple[Choices, float]]:
        """Of all seeds and sets, each with its target."""
        return [
            (pick, target_ms)
            for sets in self.picks
            for one in sets
            for pick, target_ms in zip(one, self.ruler.targets_ms, strict=True)
        ]

    @property
    def means(self) -> list[float]:
        """Of each seed the mean over targets."""
        return [sum(of_seed) / len(of_seed) for of_seed in self.percentiles]

    @property
    def _first(self) -> list[float]:
        return [of_seed[0] for of_seed in self.percentiles]

    def percentile_figures(self, random: np.random.Generator) -> dict[str, Any]:
        """Of the first target, and of all."""
        return {
            "percentile": interval(self._first, random),
            "percentile_over_targets": interval(self.means, random),
            "supernets_below_60": sum(percentile < LOW for percentile in self._first),
        }

    def figures(self, random: np.random.Generator) -> dict[str, Any]:
        """For the document."""
        ruler, all_picks = self.ruler, self._all_picks()
        return {
            **self.percentile_figures(random),
            "wins": self._wins(random),
            "expected_wins": sum(self._first) / 100,
            "points_below_best": ruler.points_below_best(all_picks),
            "random_over_pick_latency": ruler.random_over_pick(all_picks),
            "picks_without_opponents": sum(not ruler.near(*one) for one in all_picks),
        }

    def _wins(self, random: np.random.Generator) -> int:
        """How many seeds' first pick beats one random network of its latency."""
        truth, won = self.ruler.truth, 0
        for sets in self.picks:
            pick = sets[0][0]
            if others := self.ruler.near(pick, self.ruler.targets_ms[0]):
                won += truth.test_percent(pick) > truth.test_percent(others[random.integers(len(others))])
        return won


def permuted_pick(
    ruler: Ruler, rows: Sequence[Sequence[float]], target_ms: float, random: np.random.Generator
) -> Choices:
    """The most probable path if each layer's probabilities belonged to other candidates."""
    exchanged = [random.permutation(row).tolist() for row in rows]
    return ruler.best_under_target(scores(ruler.of, exchanged), target_ms)


def picks_of(
    ruler: Ruler, found: Sequence[Found], random: np.random.Generator
) -> dict[str, list[list[list[Choices]]]]:
    """All kinds of picks: of each seed some sets with one for every target; those with several are drawn.

    ``search``: for the first target what the product's prune picks.
    """
    picks = {kind: [[one.learned[kind].picks] for one in found] for kind in KINDS}
    picks["search"] = [[[one.pruned, *one.learned["search"].picks[1:]]] for one in found]
    picks[PERMUTED] = [
        [
            [
                permuted_pick(ruler, rows, target_ms, random)
                for rows, target_ms in zip(
                    one.learned["search"].log_probabilities, ruler.targets_ms, strict=True
                )
            ]
            for _ in range(PERMUTATIONS)
        ]
        for one in found
    ]
    return picks


# --- the rival ----------------------------------------------------------------------------------------------


def rival_percent(trainings: int, ruler: Ruler, random: np.random.Generator) -> float:
    """What the best of so many trained random networks of the target is worth, in the mean.

    Drawn as paths, a network once. Each is trained once, as the table did with one of its seeds; validation
    images choose.
    """
    import numpy as np

    of, truth = ruler.of, ruler.truth
    keys = [of.keys(of.paths[n]) for n in ruler.under_target(ruler.targets_ms[0])]
    networks = list(dict.fromkeys(keys))
    runs = [truth.runs[key] for key in networks]
    worth = np.array([truth.test_percent(of_network[0].choices) for of_network in runs])
    validation = np.array([[run.validation_percent for run in of_network] for of_network in runs])
    of_path = np.array([networks.index(key) for key in keys])
    total = 0.0
    for _ in range(DRAWS):
        drawn = random.permutation(of_path)
        first = np.sort(np.unique(drawn, return_index=True)[1])[:trainings]
        seen = validation[drawn[first], random.integers(validation.shape[1], size=len(first))]
        total += worth[drawn[first[seen.argmax()]]]
    return total / DRAWS


def against_rival(found: Sequence[Found], ruler: Ruler, random: np.random.Generator) -> dict[str, Any]:
    """The search's picks against random search of equal processor time, the final training included."""
    searching = sum(one.processor_seconds for one in found)
    training = sum(one.training_processor_seconds for one in found)
    trainings = round(1 + searching / training)
    rival = rival_percent(trainings, ruler, random)
    of, truth = ruler.of, ruler.truth
    picks_percent = [truth.test_percent(one.pruned) for one in found]
    keys = {of.keys(of.paths[n]) for n in ruler.under_target(ruler.targets_ms[0])}
    worth = sorted(truth.test_percent(truth.runs[key][0].choices) for key in keys)
    return {
        "networks_of_the_target": len(worth),
        "accuracy_percent_of_them": [worth[0], worth[len(worth) // 2], worth[-1]],
        "search_over_training_processor_time": searching / training,
        "trainings_of_equal_computing": trainings,
        "random_search_percent": rival,
        "picks_percent": picks_percent,
        "picks_minus_random_search_points": interval([percent - rival for percent in picks_percent], random),
    }


# --- the run ------------------------------------------------------------------------------------------------


def run(full: bool) -> Outcome:
    """Search each space, then compare."""
    figures, bars = {}, []
    for of in SPACES.values():
        if not of.table.exists():
            say(
                f"search_vs_random: {of.name} is left out: python -m benchmarks.tabular_space --full makes it"
            )
            continue
        outcome = run_space(of, full=full)
        figures[of.name] = outcome.figures
        bars += [replace(bar, name=f"{of.name}_{bar.name}") for bar in outcome.bars]
    return Outcome(figures, bars)


def run_space(of: Tabular, *, full: bool) -> Outcome:
    """All seeds of one space."""
    ruler = Ruler.read(of)
    # The stages' versions stand for the code.
    decided_by = [SEARCH[of.name].model_dump_json(), PICK.model_dump_json(), repr((ESTIMATORS, KINDS))]
    decided_by += [repr(targets_ms(of)), f"{MINIMUM_SHARE} {Search.version} {Prune.version}"]
    decided_by += [of.space.model_dump_json(), of.latency_file.read_text(encoding="utf-8")]
    kept = KeptLines("search_vs_random", decided_by)
    jobs: list[Job] = [(of.name, seed) for seed in range(SEEDS if full else QUICK_SEEDS)]
    found = [Found.parse(read) for _, read in kept.results(jobs, search_once)]
    outcome = summarise(sorted(found, key=lambda one: one.seed), ruler, full=full)
    kept.finish()
    return outcome


def summarise(found: Sequence[Found], ruler: Ruler, *, full: bool) -> Outcome:
    """Figures and bars of a space."""
    import numpy as np

    random = np.random.default_rng(0)
    of_bars = ruler.of_the_bars()
    picks = picks_of(ruler, found, random)
    held = {kind: Held(of_kind, ruler) for kind, of_kind in picks.items()}
    kinds = {kind: of_kind.figures(random) for kind, of_kind in held.items()}
    for kind, of_kind in picks.items():
        kinds[kind]["by_the_bars_ruler"] = Held(of_kind, of_bars).percentile_figures(random)
    for kind in KINDS:
        learned = [one.learned[kind] for one in found]
        kinds[kind]["entropy"] = sum(one.entropy for one in learned) / len(learned)
        kinds[kind]["forward_passes"] = max(one.passes for one in learned)
        more = np.subtract(held["search"].means, held[kind].means).tolist()
        kinds[kind]["search_minus_this_over_targets"] = interval(more, random)
    again = [one.training for one in found]
    same = [training in ruler.truth.runs[ruler.of.keys(training.choices)] for training in again]
    chance, targets = ruler.chance_percentile(), ruler.targets_ms
    blind = [
        ruler.points_below_best([(ruler.of.paths[n], ms) for n in ruler.under_target(ms)]) for ms in targets
    ]
    figures = {
        "supernets": len(found),
        "chance": chance,
        "chance_points_below_best": sum(blind) / len(blind),
        "targets_ms": list(targets),
        "kinds": kinds,
        "pruned_is_most_probable": sum(one.pruned == one.learned["search"].picks[0] for one in found),
        "ruler": [ruler.signal_to_noise(target_ms) for target_ms in targets],
        "random_search": against_rival(found, ruler, random),
        "table_reproduced": [sum(same), len(same)],
    }
    return Outcome(figures, _bars(kinds, len(found), chance) if full else [])


def _bars(kinds: Mapping[str, Any], supernets: int, chance: float) -> list[Bar]:
    bars, most_low = [], MOST_LOW * supernets / SEEDS
    for kind in ("search", OWN_TARGETS):
        of_kind = kinds[kind]["by_the_bars_ruler"]
        mean, low, _ = of_kind["percentile_over_targets"]
        bars += [
            at_least(f"{kind}_percentile_over_targets", mean, MEAN),
            at_least(f"{kind}_percentile_over_targets_lower_end", low, MEAN_LOWER_END),
            at_most(f"{kind}_supernets_below_60", of_kind["supernets_below_60"], most_low),
        ]
    # Nothing is concluded from a pick that no network of its latency stands against.
    bars.append(at_most("search_picks_without_opponents", kinds["search"]["picks_without_opponents"], 0))
    intervals = {control: kinds[control]["percentile_over_targets"] for control in CONTROLS}
    return bars + control_bars(intervals, chance)


if __name__ == "__main__":
    sys.exit(main("search_vs_random", run))
