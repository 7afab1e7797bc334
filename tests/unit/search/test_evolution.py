"""Evolution from well-ranked networks: what it finds, what it must never do, and what it cannot do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.planted_values import costs, every_path, planted

from stages.nas.evolution import CHILDREN, Path, evolve
from stages.nas.path_values import PathValues
from stages.nas.solver import best_paths, path_ms

SIZES = (5,) * 9
"""Two million paths: what is found was not stumbled upon."""


def value_of(values: PathValues) -> Callable[[Path], float]:
    return lambda path: float(values.value(np.array([path]))[0])


def bounds_of(costs_ms: list[list[float]], place: float = 0.5) -> tuple[float, float]:
    low, high = (sum(map(end, costs_ms)) for end in (min, max))
    most = low + place * (high - low)
    return 0.9 * most, most


def random_start(costs_ms: list[list[float]], bounds: tuple[float, float], seed: int) -> list[Path]:
    random = np.random.default_rng(seed)
    start: list[Path] = []
    while len(start) < 15:
        path = tuple(random.integers([len(row) for row in costs_ms]).tolist())
        if bounds[0] <= path_ms(costs_ms, path) <= bounds[1] and path not in start:
            start.append(path)
    return start


@pytest.mark.parametrize("seed", range(4))
def test_without_noise_it_reaches_the_exact_optimum_of_an_additive_value(seed: int) -> None:
    values, costs_ms = planted(seed, 0.0, SIZES), costs(seed, SIZES)
    bounds = bounds_of(costs_ms)
    (optimum,) = best_paths(
        [row.tolist() for row in values.layer_C.reshape(9, 5)],
        costs_ms,
        at_least_ms=bounds[0],
        at_most_ms=bounds[1],
        count=1,
    )
    start = random_start(costs_ms, bounds, seed)
    assert max(map(value_of(values), start)) < value_of(values)(optimum), "nothing is left to find"
    best, *_ = evolve(
        value_of(values),
        start,
        costs_ms,
        at_least_ms=bounds[0],
        at_most_ms=bounds[1],
        generations=60,
        seed=seed,
    )
    assert best == optimum


@pytest.mark.parametrize("seed", range(4))
def test_with_interactions_it_finds_better_than_the_best_without_them(seed: int) -> None:
    """Its start are the best by what single layers add, as a shortlist is by an estimate."""
    values, costs_ms = planted(seed, 0.6, SIZES), costs(seed, SIZES)
    low, high = bounds_of(costs_ms)
    layers = [row.tolist() for row in values.layer_C.reshape(9, 5)]
    start = best_paths(layers, costs_ms, at_least_ms=low, at_most_ms=high, count=15)
    judge = value_of(values)
    best, *_ = evolve(judge, start, costs_ms, at_least_ms=low, at_most_ms=high, generations=10, seed=seed)
    spread = float(np.std(values.value(np.random.default_rng(0).integers(5, size=(500, 9)))))
    assert judge(best) > max(map(judge, start)) + 0.3 * spread


def test_a_screen_that_knows_something_saves_judging() -> None:
    with_screen, without = [], []
    for seed in range(8):
        values, costs_ms = planted(seed, 0.6, SIZES), costs(seed, SIZES)
        low, high = bounds_of(costs_ms)
        judge, start = value_of(values), random_start(costs_ms, (low, high), seed)
        shaken = np.random.default_rng(seed).normal(size=len(values.layer_C))
        guess = PathValues(SIZES, 0.0, values.layer_C + 0.5 * shaken, 0.0 * values.pair_CC, values.variances)
        for screen, found in (
            (lambda paths, guess=guess: guess.value(np.array(paths)).tolist(), with_screen),
            (None, without),
        ):
            best, *_ = evolve(
                judge,
                start,
                costs_ms,
                at_least_ms=low,
                at_most_ms=high,
                generations=3,
                seed=seed,
                screen=screen,
            )
            found.append(judge(best))
    assert np.mean(with_screen) > np.mean(without) + 0.5


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    seed=st.integers(0, 2**20),
    room=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    starts=st.integers(1, 6),
    generations=st.integers(0, 4),
    screened=st.booleans(),
    modulus=st.integers(1, 7),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_it_keeps_the_bounds_and_repeats_no_network(
    sizes: list[int],
    seed: int,
    room: tuple[float, float],
    starts: int,
    generations: int,
    screened: bool,
    modulus: int,
) -> None:
    values, costs_ms, paths = planted(seed, 0.3, sizes), costs(seed, sizes), every_path(sizes).tolist()
    middle_ms = path_ms(costs_ms, paths[seed % len(paths)])
    low, high = middle_ms * (1 - room[0]) - 1e-9, middle_ms * (1 + room[1]) + 1e-9
    within = [tuple(path) for path in paths if low <= path_ms(costs_ms, path) <= high]
    start = [within[(seed + 7 * place) % len(within)] for place in range(starts)]

    def identity(path: Path) -> int:
        return sum(path) % modulus

    def evolved() -> tuple[list[Path], list[Path], list[int]]:
        asked: list[Path] = []
        done: list[int] = []

        def judge(path: Path) -> float:
            asked.append(path)
            return value_of(values)(path)

        found = evolve(
            judge,
            start,
            costs_ms,
            at_least_ms=low,
            at_most_ms=high,
            generations=generations,
            seed=seed,
            identity=identity,
            screen=(lambda paths: [-float(sum(path)) for path in paths]) if screened else None,
            each_generation=done.append,
        )
        return found, asked, done

    found, asked, done = evolved()
    assert sorted(found) == sorted(asked), "judged is what is given"
    assert len({identity(path) for path in asked}) == len(asked), "a network was judged twice"
    assert set(asked) <= set(within)
    assert {identity(path) for path in start} <= {identity(path) for path in asked}
    firsts = list({identity(path): path for path in reversed(start)}.values())
    assert set(firsts) <= set(asked), "of a start's equal paths the first stays"
    assert len(asked) <= len(firsts) + CHILDREN * generations
    assert done == list(range(1, len(done) + 1))
    judged = [value_of(values)(path) for path in found]
    assert judged == sorted(judged, reverse=True)
    assert evolved() == (found, asked, done), "the same arguments gave other paths"


def test_where_everything_is_judged_it_ends() -> None:
    sizes = (2, 1, 3)
    costs_ms, done = costs(0, sizes), list[int]()
    found = evolve(
        value_of(planted(0, 0.3, sizes)),
        [(0, 0, 0)],
        costs_ms,
        at_least_ms=0.0,
        at_most_ms=99.0,
        generations=100,
        seed=0,
        each_generation=done.append,
    )
    assert sorted(found) == sorted(map(tuple, every_path(sizes).tolist()))
    assert len(done) < 10


def test_of_one_network_nothing_can_be_bred() -> None:
    alone = evolve(
        lambda path: 0.0, [(0, 0)], [[1.0], [2.0]], at_least_ms=0, at_most_ms=9, generations=5, seed=0
    )
    assert alone == [(0, 0)]


def test_where_the_judge_knows_nothing_the_true_value_does_not_rise() -> None:
    """The negative control: children are favoured by the judge alone, never by how they are made."""
    gains = []
    for seed in range(60):
        values, costs_ms = planted(seed, 0.3, SIZES), costs(seed, SIZES)
        low, high = bounds_of(costs_ms)
        start, noise = random_start(costs_ms, (low, high), seed), np.random.default_rng([seed, 1])
        best, *_ = evolve(
            lambda path, noise=noise: float(noise.normal()),
            start,
            costs_ms,
            at_least_ms=low,
            at_most_ms=high,
            generations=10,
            seed=seed,
        )
        truth = value_of(values)
        gains.append(truth(best) - float(np.mean([truth(path) for path in start])))
    error = float(np.std(gains, ddof=1)) / np.sqrt(len(gains))
    assert abs(np.mean(gains)) < 3 * error
    assert error < 0.6, "it would not have seen a gain"
