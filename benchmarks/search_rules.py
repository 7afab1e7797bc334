"""Which rule finds good networks by nothing but its probabilities? Replayed on recorded losses, in minutes.

Twelve supernets of the tabular space were trained, and at every second architecture step the losses of all
243 paths on that step's own images were recorded, with true and with shuffled labels
(:mod:`benchmarks.record_losses`). A rule draws its paths and is told what was recorded of them, a row for two
steps. What its most probable path under each of eight targets is worth is known: all networks were trained to
the end. The seeds from 100 on served to choose the rules' constants, 0 to 7 to confirm them.

Controls: noise in place of losses (*blind*), shuffled labels, and probabilities that each layer's candidates
have exchanged. Beside the rules a ceiling: the path of the least recorded loss, in the mean of all steps. And
what a training of their own would choose among the most probable networks (*trials*), at its best: a whole
training of each, judged on the validation images.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, Outcome, at_least, main
from benchmarks._tabular import SPACES, Tabular
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
from benchmarks.record_losses import (
    CHOSEN_BY,
    CONFIRMED_BY,
    STEPS_OF_A_ROW,
    losses_file,
    recorded,
    recorded_spaces,
)
from pipeline.artifact import sha256_hex
from stages.nas.latency_window import LatencyWindow
from stages.nas.rules.base import PathRule, Rows
from stages.nas.rules.posterior import PosteriorRule
from stages.nas.rules.window import WindowRule
from stages.nas.targets import latency_window
from stages.search import Search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PATHS_PER_STEP, WINDOW_RATE = 4, 0.1
PERMUTATIONS, SPREAD = 20, 0.07
MEAN, LOWER_END, LOW = 88.0, 82.0, 60.0
TRIED = (2, 3, 5)  # of the most probable networks
RULES: Mapping[str, Callable[[Sequence[LatencyWindow], int, int], PathRule]] = {
    "posterior": lambda windows, steps, seed: PosteriorRule(windows, steps, PATHS_PER_STEP, seed),
    "window": lambda windows, _, seed: WindowRule(windows, PATHS_PER_STEP, WINDOW_RATE, seed),
}


@dataclass(frozen=True)
class Replay:
    """One search of a space's supernet: by a rule, for one target or for all at once."""

    space: str
    supernet: int
    rule: str
    losses: str
    targets: tuple[int, ...]
    repeat: int = 0

    @property
    def job(self) -> Job:
        """Its key among the kept results."""
        targets = ",".join(map(str, self.targets))
        return (self.space, self.supernet, self.rule, self.losses, targets, self.repeat)

    @classmethod
    def of(cls, job: Job) -> Replay:
        """The replay of a key."""
        space, supernet, rule, losses, targets, repeat = job
        of_targets = tuple(map(int, str(targets).split(",")))
        return cls(str(space), int(supernet), str(rule), str(losses), of_targets, int(repeat))


def replay_job(job: Job) -> list[list[list[float]]]:
    """What :func:`replay` gives, as JSON has it."""
    return [[row.tolist() for row in rows] for rows in replay(Replay.of(job))]


def replay(job: Replay) -> list[Rows]:
    """For each of the job's targets the log-probabilities in the end."""
    import numpy as np

    of = SPACES[job.space]
    losses_RP = recorded(of, "shuffled" if job.losses == "shuffled" else "true", job.supernet)
    place = {path: number for number, path in enumerate(of.paths)}
    of_targets = targets_ms(of)
    windows = [
        latency_window(of.space, of.latency, of_targets[target], MINIMUM_SHARE) for target in job.targets
    ]
    seed = 1000 * job.supernet + 100 * job.repeat + job.targets[0]
    steps = STEPS_OF_A_ROW * len(losses_RP)
    rule, random = RULES[job.rule](windows, steps, seed), np.random.default_rng([seed, 1])
    for step in range(steps):
        paths_KL = rule.draw()
        drawn = [place[tuple(path)] for path in paths_KL.tolist()]
        values_K = -losses_RP[step // STEPS_OF_A_ROW, drawn]
        if job.losses == "blind":
            values_K = SPREAD * random.normal(size=len(drawn))
        rule.learn(paths_KL, values_K)
    return [rule.log_probabilities(number) for number in range(len(job.targets))]


def run(full: bool) -> Outcome:
    """Every space whose losses are recorded."""
    figures, bars = {}, []
    for of in recorded_spaces("search_rules"):
        figures[of.name] = run_space(of, full=full)
        if full:
            bars += [replace(bar, name=f"{of.name}_{bar.name}") for bar in _bars(figures[of.name])]
    return Outcome(figures, bars)


def run_space(of: Tabular, *, full: bool) -> dict[str, Any]:
    """Every rule, for single targets and for all at once, and the controls; on all cores."""
    import numpy as np

    supernets = (*CHOSEN_BY, *CONFIRMED_BY) if full else (CHOSEN_BY[0], CONFIRMED_BY[0])
    single = [(target,) for target in range(len(targets_ms(of)))]
    together = [tuple(range(len(targets_ms(of))))]
    replays = [
        Replay(of.name, supernet, rule, losses, targets, repeat)
        for rule in RULES
        for losses, of_targets in (("true", single + together), ("blind", single), ("shuffled", single))
        for supernet in supernets
        for targets in of_targets
        for repeat in range(3 if full and losses == "true" else 1)
    ]
    # The stage's version stands for the code.
    decided_by = [
        str(Search.version),
        sha256_hex(losses_file(of).read_bytes()),
        repr(targets_ms(of)),
        str(WINDOW_RATE),
    ]
    kept = KeptLines("search_rules", decided_by)
    found = dict(kept.results([one.job for one in replays], replay_job))
    # In the replays' order, whichever was done first: permutations are drawn by it.
    results = {one: [list(map(np.asarray, rows)) for rows in found[one.job]] for one in replays}
    figures = summarise(of, results, supernets)
    kept.finish()
    return figures


def summarise(
    of: Tabular, results: Mapping[Replay, Sequence[Rows]], supernets: Sequence[int]
) -> dict[str, Any]:
    """Percentiles by rule, with intervals over supernets."""
    ruler = Ruler.read(of)
    figures = percentiles_of(results, supernets, ruler)
    of_bars = percentiles_of(results, supernets, ruler.of_the_bars())
    for name, of_kind in figures.items():
        of_kind["by_the_bars_ruler"] = of_bars[name]
    return {
        "supernets": list(supernets),
        "networks_under_the_targets": [len(ruler.under_target(target_ms)) for target_ms in ruler.targets_ms],
        "forward_passes": STEPS_OF_A_ROW * len(recorded(of, "true", supernets[0])) * PATHS_PER_STEP,
        "chance": ruler.chance_percentile(),
        "percentiles": figures,
    }


def percentiles_of(
    results: Mapping[Replay, Sequence[Rows]], supernets: Sequence[int], ruler: Ruler
) -> dict[str, dict[str, Any]]:
    """By the name of a rule and what it was told: what its probabilities are worth."""
    import numpy as np

    of, count, random = ruler.of, len(ruler.targets_ms), np.random.default_rng(0)

    def percentile(of_paths: Array, target: int) -> float:
        target_ms = ruler.targets_ms[target]
        return 100 * ruler.beaten_share(ruler.best_under_target(of_paths, target_ms), target_ms)

    # [repeat, supernet, target]: what a replay's probabilities are worth
    found: dict[str, Array] = {}
    permuted: dict[str, Array] = {}
    for job, of_targets in results.items():
        together = "_all_targets" if len(job.targets) > 1 else ""
        name = f"{job.rule}{together}"
        name += {"true": "", "blind": "_blind", "shuffled": "_shuffled_labels"}[job.losses]
        row = supernets.index(job.supernet)
        table = found.setdefault(name, np.full((3, len(supernets), count), np.nan))
        for target, rows in zip(job.targets, of_targets, strict=True):
            table[job.repeat, row, target] = percentile(scores(of, rows), target)
            if name == "posterior":
                tried = tried_percentiles(scores(of, rows), ruler.targets_ms[target], ruler)
                for networks, of_best in tried.items():
                    tried_name = f"posterior_then_{networks}_trained"
                    of_tried = found.setdefault(tried_name, np.full_like(table, np.nan))
                    of_tried[job.repeat, row, target] = of_best
            if job.losses == "true" and not together and job.repeat == 0:
                worth = [
                    percentile(scores(of, [random.permutation(r) for r in rows]), target)
                    for _ in range(PERMUTATIONS)
                ]
                of_rule = permuted.setdefault(
                    f"{job.rule}_{PERMUTED}", np.full((1, len(supernets), count), np.nan)
                )
                of_rule[0, row, target] = np.mean(worth)
    ceiling = np.array(
        [
            [percentile(-recorded(of, "true", supernet).mean(axis=0), target) for target in range(count)]
            for supernet in supernets
        ]
    )
    tables = {**found, **permuted, "least_recorded_loss": ceiling[None]}
    confirmed = [supernets.index(s) for s in supernets if s in CONFIRMED_BY]
    return {name: _figures(np.nanmean(table, axis=0), confirmed, random) for name, table in tables.items()}


def tried_percentiles(of_paths: Array, target_ms: float, ruler: Ruler) -> dict[int, float]:
    """By how many of the most probable networks are trained: what the best on validation images is worth.

    The mean over all ways to take one of each network's trainings. What a network is worth is the mean of
    its trainings, this one among them, which is kind to the choice.
    """
    import numpy as np

    of, runs = ruler.of, ruler.truth.runs
    paths = of.paths
    probable = sorted(ruler.under_target(target_ms), key=lambda number: -of_paths[number])
    by_network = {of.keys(paths[number]): number for number in reversed(probable)}
    numbers = sorted(by_network.values(), key=probable.index)[: max(TRIED)]
    worth = [100 * ruler.beaten_share(paths[number], target_ms) for number in numbers]
    seen = [[run.validation_percent for run in runs[of.keys(paths[number])]] for number in numbers]
    return {
        count: float(np.mean([worth[int(np.argmax(one))] for one in product(*seen[:count])]))
        for count in TRIED
    }


def _figures(percentile_ST: Array, confirmed: Sequence[int], random: np.random.Generator) -> dict[str, Any]:
    means = percentile_ST.mean(axis=1)
    return {
        "first_target": interval(percentile_ST[:, 0], random),
        "mean_over_targets": interval(means, random),
        "confirmed": interval(means[list(confirmed)], random),
        "by_target": percentile_ST.mean(axis=0).tolist(),
        "supernets_below_60": int((percentile_ST[:, 0] < LOW).sum()),
    }


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    percentiles = figures["percentiles"]
    mean, low, _ = percentiles["posterior"]["by_the_bars_ruler"]["confirmed"]
    bars = [
        at_least("posterior_mean_over_targets", mean, MEAN),
        at_least("posterior_lower_end", low, LOWER_END),
    ]
    for rule in RULES:
        intervals = {control: percentiles[f"{rule}_{control}"]["mean_over_targets"] for control in CONTROLS}
        bars += control_bars(intervals, figures["chance"], f"{rule}_")
    return bars


if __name__ == "__main__":
    sys.exit(main("search_rules", run))
