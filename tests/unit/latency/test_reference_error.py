"""The error that all networks of a calibration share: what it is said to be, and what it is."""

from __future__ import annotations

import math
import random
from statistics import median

import numpy as np
import pytest

from android_bench.device import LatencyMeasurement
from stages.documents import Timing
from stages.latency.reference_error import reference_error_percent

NETWORKS, ROUNDS = 30, 20


def timing(number: int, name: str, ms: float, slowdown: float = 1.0, *, disturbed: bool = False) -> Timing:
    measured = LatencyMeasurement(
        median_ms=ms, p5_ms=ms, p95_ms=ms, min_ms=ms, runs=9, rounds=1, round_medians_ms=(ms,)
    )
    return Timing(round=number, name=name, measurement=measured, slowdown=slowdown, disturbed=disturbed)


def calibration(
    seed: int, *, placement: float, rounds: int = ROUNDS, noise: float = 0.01, followed: bool = True
) -> list[Timing]:
    """Rounds of all networks with the reference between; each has another process for all of its models.

    ``followed``: what the reference shows is taken for the device's speed, reading by reading; else its trend
    is, which the drift's correction knows just as well.
    """
    chance = random.Random(seed)
    timings = []
    for number in range(rounds):
        reference = chance.gauss(0, placement)
        device = chance.gauss(0, 0.05)
        slowdown = math.exp(reference + device if followed else device)
        for network in range(NETWORKS):
            if network % 5 == 0:
                ms = 3.0 * math.exp(reference + device)
                timings.append(timing(number, "reference", ms, slowdown))
            ms = (1 + network / 10) * math.exp(device + chance.gauss(0, placement) + chance.gauss(0, noise))
            timings.append(timing(number, f"network {network}", ms, slowdown))
    return timings


def shared_error(timings: list[Timing]) -> float:
    """By how much all networks are off together, in the reference's measure."""
    logs: dict[str, list[float]] = {}
    for one in timings:
        log = math.log(one.measurement.median_ms / one.slowdown)
        logs.setdefault(one.name, []).append(log)
    beside = median(logs["reference"]) - math.log(3.0)
    off = [median(logs[f"network {number}"]) - math.log(1 + number / 10) for number in range(NETWORKS)]
    return median(off) - beside


@pytest.mark.parametrize("followed", [True, False])
@pytest.mark.parametrize("placement", [0.01, 0.03])
def test_it_is_what_repeated_calibrations_are_off_by(placement: float, followed: bool) -> None:
    repeated = [calibration(seed, placement=placement, followed=followed) for seed in range(150)]
    off = 100 * float(np.std([shared_error(timings) for timings in repeated]))
    told = [reference_error_percent(timings, "reference") for timings in repeated]
    assert float(np.sqrt(np.mean(np.square(told)))) == pytest.approx(off, rel=0.2)


def test_more_rounds_know_the_reference_better_and_without_an_effect_of_the_place_there_is_little() -> None:
    few, many = (
        np.mean(
            [
                reference_error_percent(calibration(s, placement=0.02, rounds=n), "reference")
                for s in range(30)
            ]
        )
        for n in (6, 54)
    )
    assert many < 0.45 * few
    assert reference_error_percent(calibration(0, placement=0.0), "reference") < 0.1


def test_disturbed_timings_say_nothing() -> None:
    timings = calibration(0, placement=0.02)
    spoiled = [
        timing(one.round, one.name, 50 * one.measurement.median_ms, one.slowdown, disturbed=True)
        for one in timings[::7]
    ]
    assert reference_error_percent([*timings, *spoiled], "reference") == reference_error_percent(
        timings, "reference"
    )


def test_nothing_is_said_by_two_rounds_or_without_the_reference() -> None:
    assert reference_error_percent(calibration(0, placement=0.02, rounds=2), "reference") == 0
    assert reference_error_percent(calibration(0, placement=0.02), "another") == 0
    assert reference_error_percent([], "reference") == 0
