"""Does the search find better networks than chance? Held against every network of a small space.

Every network of the space is trained (:mod:`benchmarks.tabular_space`), so what a pick is worth is known.
Twenty seeds of the whole search and of the pick that follows, each held against one random network of its
latency (within 3 %, as the pipeline's own are). Then what must *not* work: an architecture that never learns,
preferences that are permuted, validation labels that are shuffled. And a rival: as much computing spent on
training random networks of that target, of which the best on validation images is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from benchmarks._tabular_search import (
    ARMS,
    PICK,
    SEARCH,
    TARGET,
    Arm,
    Found,
    all_choices,
    predicted_ms,
    search_once,
    target_ms,
)
from benchmarks.tabular_space import LATENCY, TABLE, Choices, TrainedSpace, block_keys, distinct_networks
from stages.prune import Prune
from stages.search import Search
from stages.space.equal_latency import equal_latency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SEEDS, QUICK_SEEDS, ENOUGH_WINS = 20, 2, 16
ALARM_RATE = 0.05  # how often a control may look like a search
PERMUTATIONS = 50  # for each seed
DRAWS = 10_000  # bootstraps, sets of twenty, rivals


@dataclass(frozen=True)
class Held:
    """Picks of one kind, some for each seed, against all networks of their latency."""

    picks: Sequence[Sequence[Choices]]
    truth: TrainedSpace
    shares: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        shares = [[beaten_share(pick, self.truth) for pick in of_seed] for of_seed in self.picks]
        object.__setattr__(self, "shares", shares)

    def wins(self, random: np.random.Generator) -> int:
        """How many seeds' first pick beats one random network of its latency."""
        truth, won = self.truth, 0
        for first, *_ in self.picks:
            if not (others := near(first)):
                continue
            won += truth.test_percent(first) > truth.test_percent(others[random.integers(len(others))])
        return won

    def alarm_rate(self, random: np.random.Generator) -> float:
        """How often picks of this kind, one a seed, win as often as a search must."""
        import numpy as np

        drawn = np.stack([random.choice(of_seed, DRAWS) for of_seed in self.shares])
        won = (random.random(drawn.shape) < drawn).sum(axis=0)
        return float((won >= enough_wins(len(self.picks))).mean())

    def figures(self, random: np.random.Generator) -> dict[str, Any]:
        """For the document."""
        means = [sum(of_seed) / len(of_seed) for of_seed in self.shares]
        return {
            "wins": self.wins(random),
            "rate_of_enough_wins": self.alarm_rate(random),
            "mean_percentile": [100 * part for part in interval(means, random)],
            "random_over_pick_latency": random_over_pick(
                [pick for of_seed in self.picks for pick in of_seed]
            ),
            "picks_without_opponents": sum(not near(first) for first, *_ in self.picks),
        }


@cache
def near(choices: Choices) -> list[Choices]:
    """All paths to other networks of a network's latency (within 3 %) that a pick may be, too.

    Paths, and not networks: all paths are equally likely for whoever chooses at random, and for a search that
    has learned nothing. To a network with skips lead several. Only such as could be picked: else a blind pick
    beats more than half of them, since networks just below what a pick must use of the target are worse.
    """
    own, ms = block_keys(choices), predicted_ms(choices)
    candidates = (all_choices()[n] for n in under_target())
    return [
        other for other in candidates if equal_latency(predicted_ms(other) / ms) and block_keys(other) != own
    ]


def beaten_share(pick: Choices, truth: TrainedSpace) -> float:
    """Share of the paths to other networks of its latency that are less accurate; equal ones count half.

    One half where there are none: such a pick says nothing.
    """
    own = truth.test_percent(pick)
    others = [truth.test_percent(choices) for choices in near(pick)]
    if not others:
        return 0.5
    return sum((other < own) + 0.5 * (other == own) for other in others) / len(others)


def random_over_pick(picks: Sequence[Choices]) -> float:
    """Mean latency of the networks that picks are held against, over the pick's own."""
    ratios = [
        sum(map(predicted_ms, others)) / len(others) / predicted_ms(pick)
        for pick in picks
        if (others := near(pick))
    ]
    return sum(ratios) / len(ratios) if ratios else 1.0


def enough_wins(seeds: int) -> int:
    """16 of 20: by chance that happens in 6 of 1,000."""
    return -(-ENOUGH_WINS * seeds // SEEDS)


def interval(values: Sequence[float], random: np.random.Generator) -> list[float]:
    """Mean over seeds and its 95 % bootstrap interval."""
    import numpy as np

    drawn = random.choice(np.asarray(values), (DRAWS, len(values))).mean(axis=1)
    return [float(np.mean(values)), *np.percentile(drawn, (2.5, 97.5)).tolist()]


# --- what is picked without the final choice ----------------------------------------------------------------


@cache
def under_target() -> list[int]:
    """Where in ``all_choices()`` those networks stand that a pick may be."""
    least = TARGET.minimum_share * target_ms()
    return [n for n, choices in enumerate(all_choices()) if least <= predicted_ms(choices) <= target_ms()]


def best_under_target(scores: Array) -> Choices:
    """The network of the highest score, (all choices,), under the target."""
    return all_choices()[max(under_target(), key=lambda n: scores[n])]


def summed(found: Found) -> Array:
    """Log-probability of every path."""
    import numpy as np

    rows = found.log_probabilities
    return np.array([sum(row[c] for row, c in zip(rows, path, strict=True)) for path in all_choices()])


def permuted(scores: Array, random: np.random.Generator) -> Array:
    """The same scores with the candidates of each layer exchanged at random."""
    import numpy as np

    shape = [1 + max(path[layer] for path in all_choices()) for layer in range(len(all_choices()[0]))]
    table = scores.reshape(shape)
    for axis, size in enumerate(shape):
        table = np.take(table, random.permutation(size), axis=axis)
    return table.ravel()


def picks_of(found: Mapping[Arm, Sequence[Found]], random: np.random.Generator) -> dict[str, Any]:
    """All kinds of picks, a list for each seed. Those with several are drawn at random."""
    import numpy as np

    ours, frozen, shuffled, no_multiplier, no_multiplier_reinforce = (found[arm] for arm in ARMS)

    def drawn(scores: Sequence[Array]) -> list[list[Choices]]:
        return [[best_under_target(permuted(s, random)) for _ in range(PERMUTATIONS)] for s in scores]

    def tied(one: Found) -> list[Choices]:
        scores = summed(one)
        return [
            best_under_target(scores + 1e-9 * random.normal(size=len(scores))) for _ in range(PERMUTATIONS)
        ]

    return {
        "search": [[one.pick] for one in ours],
        "search_without_final_choice": [[best_under_target(np.array(one.estimated))] for one in ours],
        "search_by_probability": [[best_under_target(summed(one))] for one in ours],
        "no_multiplier_by_probability": [[best_under_target(summed(one))] for one in no_multiplier],
        "no_multiplier_reinforce_by_probability": [
            [best_under_target(summed(one))] for one in no_multiplier_reinforce
        ],
        "frozen_ranked_by_value": [[one.pick] for one in frozen],
        "frozen": [tied(one) for one in frozen],
        "permuted_probabilities": drawn([summed(one) for one in ours]),
        "permuted_values": drawn([np.array(one.estimated) for one in ours]),
        "shuffled_labels": [[best_under_target(np.array(one.estimated))] for one in shuffled],
        "shuffled_labels_by_probability": [[best_under_target(summed(one))] for one in shuffled],
    }


CONTROLS = (
    "frozen",
    "permuted_probabilities",
    "permuted_values",
    "shuffled_labels",
    "shuffled_labels_by_probability",
)


# --- the rival ----------------------------------------------------------------------------------------------


def rival_percent(trainings: int, truth: TrainedSpace, random: np.random.Generator) -> float:
    """What the best of so many trained random networks of the target is worth, in the mean.

    Drawn as paths, a network once. Each is trained once, as the table did with one of its seeds; validation
    images choose.
    """
    import numpy as np

    keys = [block_keys(all_choices()[n]) for n in under_target()]
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


def against_rival(ours: Sequence[Found], truth: TrainedSpace, random: np.random.Generator) -> dict[str, Any]:
    """The search's picks against random search of equal processor time, the final training included."""
    searching = sum(one.processor_seconds for one in ours)
    training = sum(one.training_processor_seconds for one in ours)
    trainings = round(1 + searching / training)
    rival = rival_percent(trainings, truth, random)
    gains = [truth.test_percent(one.pick) - rival for one in ours if one.pick is not None]
    keys = {block_keys(all_choices()[n]) for n in under_target()}
    worth = sorted(truth.test_percent(truth.runs[key][0].choices) for key in keys)
    return {
        "networks_of_the_target": len(worth),
        "accuracy_percent_of_them": [worth[0], worth[len(worth) // 2], worth[-1]],
        "search_over_training_processor_time": searching / training,
        "trainings_of_equal_computing": trainings,
        "random_search_percent": rival,
        "picks_percent": [truth.test_percent(one.pick) for one in ours if one.pick is not None],
        "picks_minus_random_search_points": interval(gains, random),
    }


# --- the run ------------------------------------------------------------------------------------------------


def searches(seeds: int) -> Iterator[Found]:
    """All arms of all seeds, on all cores. Kept in the user's cache until all are done."""
    path = _log()
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    kept = [Found.parse(line) for line in lines if line.endswith("\n")]
    path.write_text("".join(line for line in lines if line.endswith("\n")), encoding="utf-8")
    wanted = [(seed, arm) for seed in range(seeds) for arm in ARMS]
    yield from (one for one in kept if (one.seed, one.arm) in wanted)
    left = [job for job in wanted if job not in {(one.seed, one.arm) for one in kept}]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool, path.open("a", encoding="utf-8") as file:
        for index, one in enumerate(pool.map(search_once, left)):
            file.write(json.dumps(asdict(one)) + "\n")
            file.flush()
            say(f"search_vs_random: {index + 1} of {len(left)} searches ({one.arm}, seed {one.seed})")
            yield one


def _log() -> Path:
    """Named after all that decides a search but the code itself, for which the stages' versions stand."""
    parts = [SEARCH.model_dump_json(), PICK.model_dump_json(), str(Search.version), str(Prune.version)]
    parts += [TABLE.with_suffix(".yaml").read_text(encoding="utf-8"), LATENCY.read_text(encoding="utf-8")]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return user_cache_path("nasflow") / "benchmarks" / f"search_vs_random-{digest}.jsonl"


def run(full: bool) -> Outcome:
    """Search, then compare."""
    truth = TrainedSpace.read()
    seeds = SEEDS if full else QUICK_SEEDS
    found: dict[Arm, list[Found]] = {arm: [] for arm in ARMS}
    for one in searches(seeds):
        found[one.arm].append(one)
    outcome = summarise(found, truth, full=full)
    _log().replace(_log().with_suffix(".done.jsonl"))  # whoever runs it again wants it anew
    return outcome


def summarise(found: Mapping[Arm, list[Found]], truth: TrainedSpace, *, full: bool) -> Outcome:
    """Figures and bars."""
    import numpy as np

    random = np.random.default_rng(0)
    kinds = {name: Held(picks, truth).figures(random) for name, picks in picks_of(found, random).items()}
    ours = found["search"]
    again = [one.training for one in ours if one.training is not None]
    same = [training in truth.runs[block_keys(training.choices)] for training in again]
    figures = {
        "seeds": len(ours),
        "target_ms": target_ms(),
        "picks": kinds,
        "kendall_tau": {
            where: {
                score: interval([_tau(_scores(one, score), truth, where) for one in ours], random)
                for score in ("supernet_accuracy", "supernet_likelihood", "estimated", "log_probability")
            }
            for where in ("all", "under_target")
        },
        "random_search": against_rival(ours, truth, random),
        "table_reproduced": [sum(same), len(same)],
    }
    return Outcome(figures, _bars(figures) if full else [])


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    picks = figures["picks"]
    return [
        at_least("search_wins", picks["search"]["wins"], ENOUGH_WINS),
        # Nothing is concluded from a pick that no network of its latency stands against.
        at_most("search_picks_without_opponents", picks["search"]["picks_without_opponents"], 0),
        *(at_most(f"{control}_wins", picks[control]["wins"], ENOUGH_WINS - 1) for control in CONTROLS),
        # The one set that was drawn is won by luck as often as this rate says.
        *(
            at_most(f"{control}_rate_of_enough_wins", picks[control]["rate_of_enough_wins"], ALARM_RATE)
            for control in CONTROLS
        ),
    ]


def _scores(one: Found, score: str) -> dict[Choices, float]:
    by_choices = dict(zip(all_choices(), one.estimated, strict=True))
    if score == "log_probability":
        by_choices = dict(zip(all_choices(), summed(one).tolist(), strict=True))
    if score.startswith("supernet"):
        column = 0 if score == "supernet_accuracy" else 1
        row = [evaluated[column] for evaluated in one.evaluated]
        return dict(zip(distinct_networks(), row, strict=True))
    return {choices: by_choices[choices] for choices in distinct_networks()}


def _tau(scores: Mapping[Choices, float], truth: TrainedSpace, where: str) -> float:
    """Kendall's tau-b of scores and finished accuracy, over all networks or those of the target."""
    from scipy.stats import kendalltau

    least = TARGET.minimum_share * target_ms()
    chosen = [c for c in scores if where == "all" or least <= predicted_ms(c) <= target_ms()]
    return float(kendalltau([scores[c] for c in chosen], [truth.test_percent(c) for c in chosen]).statistic)


if __name__ == "__main__":
    sys.exit(main("search_vs_random", run))
