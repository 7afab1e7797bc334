"""How long a GPU waits, from the moments at which its steps began and ended."""

from __future__ import annotations

import pytest

from benchmarks._gpu_waiting import waiting_share


@pytest.mark.parametrize(
    ("steps", "share"),
    [
        ([(0, 10), (10, 20), (20, 30)], 0.0),
        ([(0, 10), (15, 20), (20, 30)], 0.25),
        ([(5, 10), (19, 20), (29, 30)], 0.9),
    ],
)
def test_what_lies_between_steps_is_waiting(steps: list[tuple[float, float]], share: float) -> None:
    assert waiting_share(steps) == pytest.approx(share)
