"""The latency multiplier: it holds the expectation at the target, and it does not wind up."""

from __future__ import annotations

import json

import pytest
import torch

from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.multiplier import LatencyMultiplier

CONFIG = SearchConfig()
STEPS = 500
_RANDOM = torch.Generator().manual_seed(0)
BLOCK_MS = [(0.01 + 0.05 * torch.rand(4, generator=_RANDOM)).tolist() for _ in range(11)]
LOSSES = [[0.06 - ms + 0.015 * float(torch.rand((), generator=_RANDOM)) for ms in row] for row in BLOCK_MS]
"""Eleven layers whose slow candidates are mostly the accurate ones: without a multiplier all take them."""


def new_multiplier(target_ms: float, steps: int = STEPS) -> LatencyMultiplier:
    return LatencyMultiplier(
        target_ms,
        rate=CONFIG.multiplier_rate,
        damping=CONFIG.multiplier_damping,
        anneal_steps=int(CONFIG.anneal_share * steps),
        limit=CONFIG.multiplier_limit,
    )


def descend(
    target_ms: float, *, weighted: bool = True
) -> tuple[Architecture, LatencyMultiplier, list[float]]:
    """Exact gradient descent of loss + multiplier * E / target: no noise, so that the answer is known."""
    architecture, multiplier = Architecture(BLOCK_MS, 0.05), new_multiplier(target_ms)
    optimizer = torch.optim.Adam(
        architecture.parameters(), lr=CONFIG.architecture_learning_rate, betas=(0.0, 0.999)
    )
    course = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        cost = torch.zeros(())
        for alpha, losses, row in zip(architecture.alphas, LOSSES, BLOCK_MS, strict=True):
            p = alpha.softmax(0)
            cost = cost + p @ torch.tensor(losses)
            cost = cost + (multiplier.value if weighted else 0.0) / target_ms * (p @ torch.tensor(row))
        cost.backward()
        optimizer.step()
        course.append(architecture.expected_ms())
        multiplier.update(course[-1])
    return architecture, multiplier, course


@pytest.mark.parametrize("target_ms", [0.3, 0.35, 0.42, 0.5])
def test_the_expectation_ends_at_the_target(target_ms: float) -> None:
    architecture, _, course = descend(target_ms)
    assert architecture.expected_ms() == pytest.approx(target_ms, rel=0.03)
    settled = course[int(0.7 * STEPS) :]
    assert max(abs(ms / target_ms - 1) for ms in settled) < 0.05


def test_without_a_multiplier_the_expectation_goes_elsewhere() -> None:
    architecture, _, _ = descend(0.35, weighted=False)
    assert architecture.expected_ms() > 1.5 * 0.35


def test_the_target_moves_in_a_straight_line_from_the_first_expectation() -> None:
    multiplier = LatencyMultiplier(1.0, rate=0.1, damping=0.0, anneal_steps=10, limit=3.0)
    multiplier.update(2.0)
    line = []
    for _ in range(12):
        line.append(multiplier.momentary_target_ms())
        multiplier.update(1.5)
    assert line == pytest.approx([2 - step / 10 for step in range(1, 10)] + [1.0] * 3)
    at_once = LatencyMultiplier(1.0, rate=0.1, damping=0.0, anneal_steps=0, limit=3.0)
    at_once.update(2.0)
    assert at_once.momentary_target_ms() == 1.0
    assert at_once.value == pytest.approx(0.1)


def test_an_unreachable_target_stops_at_the_limit() -> None:
    multiplier = new_multiplier(1.0, steps=0)
    for _ in range(10_000):
        multiplier.update(2.0)
    assert multiplier.integral == CONFIG.multiplier_limit
    steps = 0
    while multiplier.value > 0:
        multiplier.update(0.9)
        steps += 1
    assert steps <= (CONFIG.multiplier_limit / 0.1 / CONFIG.multiplier_rate) + 1


def test_below_the_target_latency_earns_a_bonus() -> None:
    multiplier = new_multiplier(1.0, steps=0)
    for _ in range(50):
        multiplier.update(0.5)
    assert multiplier.value < 0
    for _ in range(10_000):
        multiplier.update(0.5)
    assert multiplier.integral == -CONFIG.multiplier_limit


def test_restored_from_json_it_goes_on_identically() -> None:
    expectations = torch.rand(60, generator=torch.Generator().manual_seed(0)).tolist()
    whole = new_multiplier(0.5, steps=80)
    for stop in (0, 1, 17, 45):
        first, second = new_multiplier(0.5, steps=80), new_multiplier(0.5, steps=80)
        for ms in expectations[:stop]:
            first.update(ms)
        second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
        for ms in expectations[stop:]:
            first.update(ms)
            second.update(ms)
        assert (first.value, first.state()) == (second.value, second.state())
    for ms in expectations:
        whole.update(ms)
    assert whole.state() == first.state()
