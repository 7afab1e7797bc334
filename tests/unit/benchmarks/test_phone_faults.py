"""The benchmark of faults: its quick pairs end as specified, and one that does not is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import running_phone
from benchmarks._fault_run import DESCRIPTION, LeapingClock, log_timings
from benchmarks.phone_faults import PAIRS, Pair, examine, planned, run, undisturbed

pytestmark = pytest.mark.needs("bubblewrap")


def test_pairs_of_each_step_end_as_specified() -> None:
    outcome = run(full=False)
    found = outcome.figures["table"]
    assert list(dict.fromkeys(finding["step"] for finding in found)) == [
        "connect",
        "push",
        "run",
        "pull",
        "poll",
    ]
    assert [finding for finding in found if not finding["as_specified"]] == []
    assert outcome.bars[0].holds
    assert outcome.figures["same_table"] + outcome.figures["resumed"] == len(found)
    assert outcome.figures["resumed"] == sum(pair.exit_code > 0 for pair in PAIRS if pair.quick)


def test_pairs_that_end_otherwise_than_specified_are_told_apart(tmp_path: Path) -> None:
    with running_phone(description=DESCRIPTION) as phone:
        log_timings(phone)
        key = tmp_path / "adbkey"
        table = undisturbed(phone, key)
        never = examine(Pair("none", "poll", planned(drop_after_sent_bytes=10**9)), phone, key, table)
        other = examine(Pair("wrong code", "run", planned(abi="x86"), 5, moment="connect"), phone, key, table)
        late = examine(Pair("late", "connect", planned(offline=True), 4, limit_s=1.0), phone, key, table)
        foreign = examine(
            Pair("another table", "poll", planned(segment_bytes=1000)), phone, key, table[:1] + table[:3]
        )
    assert (never.outcome, never.as_specified) == ("same table", False)
    assert (other.outcome, other.exit_code, other.as_specified) == ("resumed", 4, False)
    assert (late.outcome, late.exit_code, late.as_specified) == ("resumed", 4, False)
    assert late.virtual_s >= 15
    assert (foreign.outcome, foreign.as_specified) == ("lost", False)


def test_there_are_35_different_pairs_five_or_more_of_each_step() -> None:
    assert len({(pair.fault, pair.step) for pair in PAIRS}) == len(PAIRS) >= 35
    for step in ("connect", "push", "run", "pull", "poll"):
        assert sum(pair.step == step for pair in PAIRS) >= 5
    assert all(pair.limit_s > 0 for pair in PAIRS if pair.exit_code)


def test_the_clock_runs_fast_in_silence_and_leaps_over_sleep() -> None:
    plan = FaultPlan()
    clock = LeapingClock(lambda: plan.offline)
    begin = clock()
    clock.sleep(0.5)
    assert 0.5 <= clock() - begin < 3
    done: list[float] = []
    clock.later(100.0, lambda: done.append(clock()))
    plan = FaultPlan(offline=True)
    while not done:
        clock()
    assert 100 <= done[0] - begin < 110
