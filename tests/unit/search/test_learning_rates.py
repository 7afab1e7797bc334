"""The weights' learning rate over the two phases of a search."""

from __future__ import annotations

import math

import pytest

from stages.nas.config import SearchConfig
from stages.nas.schedule import weights_rate

STEPS = 10
ONE_COSINE = SearchConfig(warmup_epochs=2, epochs=3, learning_rate=0.1)
TWO_COSINES = ONE_COSINE.model_copy(update={"warmup_learning_rate": 0.4})


def cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def test_one_cosine_spans_both_phases_behind_a_short_rise() -> None:
    rates = [weights_rate(ONE_COSINE, step, STEPS) for step in range(5 * STEPS)]
    assert rates[:3] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    assert rates[3:] == pytest.approx([0.1 * cosine((step - 3) / 47) for step in range(3, 50)])


def test_a_warm_up_with_a_rate_of_its_own_has_a_cosine_of_its_own() -> None:
    rates = [weights_rate(TWO_COSINES, step, STEPS) for step in range(5 * STEPS)]
    assert rates[:20] == pytest.approx([0.4 * cosine(step / 20) for step in range(20)])
    assert rates[20:] == pytest.approx([0.1 * cosine(step / 30) for step in range(30)])


def test_without_a_warm_up_its_rate_does_not_matter() -> None:
    config = TWO_COSINES.model_copy(update={"warmup_epochs": 0})
    assert weights_rate(config, 0, STEPS) == pytest.approx(0.1)
