"""How many epochs fit: never below one of search and training, and no more than asked for."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.training.budget import Lengths, Pace, Workload, fit, shorter

ASKED = Lengths(warmup=1, search=2, training=2)
WORKLOAD = Workload(
    images=55_000,
    cores=2,
    found=(6_000_000,) * 2,
    baselines=(6_000_000, 12_000_000, 1_000_000),
    other_seconds=120.0,
    architecture_share=0.6,
)


def pace(factor: float) -> Pace:
    return Pace(supernet_image_ms=factor, baseline_image_ms=factor, baseline_macs=6_000_000)


@given(slow=st.floats(0.01, 100), minutes=st.floats(0.1, 100))
@settings(max_examples=60)
def test_it_fits_or_nothing_shorter_is_left(slow: float, minutes: float) -> None:
    found = fit(ASKED, WORKLOAD, pace(slow), 60 * minutes)
    assert found.lengths.search >= 1 and found.lengths.training >= 1
    assert found.seconds <= 60 * minutes or found.lengths == list(shorter(ASKED))[-1]
    assert found.seconds <= found.asked_seconds
    assert all(epochs <= getattr(ASKED, name) for name, epochs in found.lengths)


def test_a_fast_computer_takes_all_epochs() -> None:
    found = fit(ASKED, WORKLOAD, pace(0.1), 600)
    assert found.lengths == ASKED and found.seconds == found.asked_seconds


def test_each_step_is_one_epoch_shorter_and_takes_less() -> None:
    steps = list(shorter(Lengths(warmup=2, search=3, training=4)))
    assert steps[-1] == Lengths(warmup=0, search=1, training=1)
    for longer, lengths in pairwise(steps):
        assert sum(dict(longer).values()) == sum(dict(lengths).values()) + 1
        assert WORKLOAD.seconds(lengths, pace(1)) < WORKLOAD.seconds(longer, pace(1))


def test_side_by_side_the_largest_network_decides_where_there_are_cores_enough() -> None:
    many = Workload(
        images=1000,
        cores=8,
        found=(),
        baselines=WORKLOAD.baselines,
        other_seconds=0.0,
        architecture_share=0.6,
    )
    alone = Workload(
        images=1000,
        cores=8,
        found=(),
        baselines=WORKLOAD.baselines[1:2],
        other_seconds=0.0,
        architecture_share=0.6,
    )
    assert many.seconds(ASKED, pace(1)) == alone.seconds(ASKED, pace(1))
