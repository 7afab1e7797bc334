"""Two versions of the quick start: the ratio of their times, and whether accuracy paid for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import run_time
from benchmarks.run_time import COMPARED, summarise
from nasflow.base.errors import UsageError


def _measured(seconds: float, percent: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "networks": {name: [percent, percent - 0.6, percent + 0.6] for name in COMPARED},
    }


def test_the_ratio_is_the_present_time_over_the_earlier_one() -> None:
    outcome = summarise({"present": _measured(500.0, 88.0), "earlier": _measured(1000.0, 88.3)})
    assert outcome.figures["seconds_ratio"] == 0.5
    value, low, high = outcome.figures["minus_earlier_points"]["found"]
    assert (value, high - low) == (pytest.approx(-0.3), pytest.approx(2 * 0.6 * 2**0.5))
    assert all(bar.holds for bar in outcome.bars)


@pytest.mark.parametrize(("seconds", "percent", "missed"), [(600.0, 88.0, 1), (500.0, 86.0, len(COMPARED))])
def test_time_that_is_not_saved_or_is_paid_for_by_accuracy_misses_a_bar(
    seconds: float, percent: float, missed: int
) -> None:
    outcome = summarise({"present": _measured(seconds, percent), "earlier": _measured(1000.0, 88.0)})
    assert sum(not bar.holds for bar in outcome.bars) == missed


def test_a_copy_without_history_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_time, "REPOSITORY", tmp_path)
    with pytest.raises(UsageError, match="commit 1700a1b cannot be read"), run_time._code("earlier"):
        pass
