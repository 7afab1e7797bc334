"""What the hardware benchmark counts: fronts, and what other targets' networks lose on a target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated_device import SimulatedDevice

from android_bench.device import RuntimeOptions
from benchmarks import _hardware_cross
from benchmarks._adapt import KINDS, adapt_bars
from benchmarks._hardware_cross import brought_to, compare, cross_bars, front, time_to
from benchmarks._tabular import TABULAR
from nasflow.base.errors import DeviceError
from stages.latency.table_check import Kind

MS = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
LOSS = np.array([0.9, 0.8, 0.5, 0.6, 0.1])


def test_a_front_holds_the_best_of_each_latency() -> None:
    assert front(MS, LOSS) == [0, 2, 4]
    assert front(MS, -MS) == [0, 1, 3, 4], "of equally fast ones the first of the best"
    assert front(MS, MS) == [0], "what takes longer and is worse is on no front"


def test_a_front_is_brought_to_a_latency_by_its_best_network_there() -> None:
    assert brought_to([0, 2, 4], MS, LOSS, 3.5) == 2
    assert brought_to([0, 2, 4], MS, LOSS, 0.5) is None
    assert time_to([0, 2, 4], MS, LOSS, 0.55) == 2.0
    assert time_to([0, 2, 4], MS, LOSS, 0.1) == 4.0


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_a_targets_own_networks_lose_nothing_and_never_less_than_others(seed: int) -> None:
    chance = np.random.default_rng(seed)
    here, there, loss = chance.uniform(1, 9, 40), chance.uniform(1, 9, 40), chance.uniform(0, 1, 40)
    own, other = front(here, loss), front(there, loss)
    percent = 100 * (1 - loss)
    assert compare(own, own, here, loss, percent) == (0.0, 0.0)
    times, points = compare(own, other, here, loss, percent)
    assert times >= 0
    assert points >= 0


def test_a_measurement_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hardware_cross, "user_cache_path", lambda _name: tmp_path)
    devices = [SimulatedDevice(noise=0.01, unplug_at=60), SimulatedDevice(noise=0.01), SimulatedDevice()]
    given = iter(devices)
    monkeypatch.setattr(_hardware_cross, "LocalDevice", lambda: next(given))
    with pytest.raises(DeviceError):
        _hardware_cross.measured(TABULAR, "local", RuntimeOptions(), full=False)
    found = _hardware_cross.measured(TABULAR, "local", RuntimeOptions(), full=False)
    again = _hardware_cross.measured(TABULAR, "local", RuntimeOptions(), full=False)
    assert devices[1].order
    assert devices[2].order == [], "what is there is not measured again"
    assert again.model == found.model
    taken = len(found.table.timings) + len(found.model.timings)
    assert len(devices[0].order) + len(devices[1].order) < 1.05 * taken


def test_the_bars_are_those_of_the_issue() -> None:
    good = {"worst_share_within_5": 0.95, "share_within_5": 0.97}
    old = {"share_within_5": 0.2}
    saved = {name: {"interval_95": [0.1, 0.3]} for name in ("old", "alone", "alone_with_prior")}
    figures = {
        "paper": {
            "kinds": {"adapted": good, "old": old},
            "operators": {"adapted": good, "old": old},
            "blocks": {"saved_points": saved, "share_within_interval": 0.95},
        }
    }
    assert all(bar.holds for bar in adapt_bars(figures))
    figures["paper"]["kinds"] = {"adapted": {"worst_share_within_5": 0.89}, "old": old}
    assert [bar.name for bar in adapt_bars(figures) if not bar.holds] == ["paper_kinds_worst_share_within_5"]


def test_each_space_has_bars_of_its_own() -> None:
    good = {"targets": dict.fromkeys("abc"), "won": 2, "won_by_control": 0}
    figures = {"one": good, "other": {**good, "won": 1, "won_by_control": 1}}
    assert {bar.name for bar in cross_bars(figures) if not bar.holds} == {
        "cross_other_targets_won",
        "cross_other_none_won_by_control",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_block_has_its_ratio(kind: Kind) -> None:
    assert KINDS[kind] > 0


def test_a_gpu_is_a_target_where_there_is_one_and_else_a_line_says_why_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_hardware_cross, "driver_is_here", lambda: False)
    without = _hardware_cross.targets_here()
    assert "cuda@batch=8@precision=float16 is skipped: NVIDIA's driver is not on" in capfd.readouterr().err
    monkeypatch.setattr(_hardware_cross, "driver_is_here", lambda: True)
    monkeypatch.setattr(_hardware_cross, "find_gpus", lambda: ((object(),), ""))
    assert set(_hardware_cross.targets_here()) - set(without) == {"cuda@batch=8@precision=float16"}
