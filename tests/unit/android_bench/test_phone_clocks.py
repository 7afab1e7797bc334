"""Clocks of a phone: settled before they count, judged within a stretch, and a sustained one accepted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.device import Conditions, CpuPolicy, RuntimeOptions
from android_bench.phone.clocks import (
    UNSTEADY_SHARE,
    Clocks,
    Policies,
    WarmUp,
    fastest_of,
    held_back,
    load_words,
    wait_for_clocks,
    with_cores,
)
from android_bench.phone.cores import Cores, all_of, clocked, cores_of
from android_bench.phone.performance_mode import ANSWER, ASK, has_fixed_performance
from android_bench.phone.stretches import MAX_DROPS
from android_bench.runner.tool import cpu_mask
from android_bench.transport import Completed, Transport

LITTLE, BIG = (0, 1, 2, 3), (4, 5, 6, 7)


def phone(big_mhz: int | None, little_mhz: int | None = 1800, current_mhz: int = 600) -> Policies:
    """Two clusters that may run at so much now."""
    return tuple(
        CpuPolicy(
            cores[0], cores, 1000 * current_mhz, None if mhz is None else 1000 * mhz, 1000 * hardware_mhz
        )
        for cores, mhz, hardware_mhz in ((LITTLE, little_mhz, 1800), (BIG, big_mhz, 2400))
    )


PEAK, CAPPED = phone(2400), phone(2000)


class Sleeper:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def rested(cores: tuple[int, ...] | None = None) -> Clocks:
    clocks = Clocks(cores=None if cores is None else frozenset(cores))
    clocks.rested(PEAK)
    return clocks


def test_a_phone_that_keeps_its_clock_is_undisturbed() -> None:
    clocks = rested()
    assert clocks.assess([PEAK] * 3) is None
    assert clocks.assess([phone(2400, current_mhz=300)]) is None, "an idle core is not a throttled one"
    assert clocks.news == ""


def test_a_lowered_clock_is_noticed_and_named() -> None:
    assert rested().assess([CAPPED, CAPPED]) == (
        "the phone throttles: the clock limit of cores 4 to 7 is 2000 MHz, before it was 2400 MHz"
    )
    one = (CpuPolicy(7, (7,), None, 3_000_000, 3_000_000),)
    assert held_back(one, (CpuPolicy(7, (7,), None, 2_000_000, 3_000_000),)) == (
        "the clock limit of core 7 is 2000 MHz, before it was 3000 MHz"
    )


def test_a_clock_that_changes_within_a_stretch_is_noticed_in_both_directions() -> None:
    for seen in ([PEAK, CAPPED], [CAPPED, PEAK], [PEAK, CAPPED, PEAK]):
        reason = rested().assess(seen)
        assert reason is not None and "2000 MHz" in reason and "within one group" in reason


def test_a_cap_that_shows_again_after_a_rest_is_what_the_phone_sustains() -> None:
    clocks = rested()
    assert clocks.assess([CAPPED] * 4) is not None
    clocks.rested(PEAK)
    assert clocks.assess([CAPPED] * 4) is None
    assert "cores 4 to 7 at 2000 of 2400 MHz" in clocks.news
    assert clocks.assess([CAPPED] * 4) is None and clocks.news == "", "it is told once"
    raised = (
        "the phone's clocks increased: the clock limit of cores 4 to 7 is 2400 MHz, before it was 2000 MHz"
    )
    assert clocks.assess([PEAK] * 4) == raised, "all timings are of one state"
    assert clocks.assess([PEAK] * 4) is None
    assert "keeps its peak" in clocks.news and clocks.expected == PEAK


def test_a_stretch_in_which_the_cap_arrived_counts_as_the_first_time() -> None:
    clocks = rested()
    assert clocks.assess([PEAK, CAPPED, CAPPED]) is not None
    assert clocks.assess([CAPPED] * 3) is None
    assert clocks.expected == CAPPED


def test_a_sustained_clock_is_neither_waited_for_nor_forgotten_at_rest() -> None:
    clocks = rested()
    clocks.assess([CAPPED])
    clocks.assess([CAPPED])
    for now in (PEAK, CAPPED):
        assert held_back(clocks.expected, now) is None
        clocks.rested(now)
        assert clocks.expected == CAPPED
    assert clocks.assess([phone(1600)]) is not None, "lower than that is throttling"


def test_caps_that_keep_falling_are_never_accepted() -> None:
    clocks = rested()
    for mhz in (2200, 2000, 1800, 1600, 1400):
        assert clocks.assess([phone(mhz)]) is not None
        assert clocks.news == ""


def test_a_phone_that_recovers_is_judged_by_its_peak() -> None:
    clocks = rested()
    assert clocks.assess([CAPPED]) is not None
    assert clocks.assess([PEAK]) is None
    assert clocks.assess([CAPPED]) is not None, "it showed once, not twice in a row"


def test_a_phone_that_is_still_held_back_after_the_wait_is_so_now() -> None:
    clocks = rested()
    clocks.rested(CAPPED)
    assert clocks.assess([CAPPED]) is None
    assert clocks.assess([PEAK]) is None, "and what is faster later is its peak again"
    assert clocks.assess([CAPPED]) is not None


def test_clusters_that_are_not_used_do_not_count() -> None:
    clocks = rested(BIG)
    assert clocks.assess([phone(2400, 900), phone(2400, 1800)]) is None
    assert with_cores(PEAK, BIG) == PEAK[1:] and with_cores(PEAK, None) == PEAK


def test_what_is_not_told_is_judged_by_nothing() -> None:
    clocks = rested()
    for seen in ([], [()], [(), ()], [phone(None, None)], [phone(None), PEAK]):
        assert clocks.assess(seen) is None
    assert Clocks().assess([PEAK]) is None
    assert fastest_of((), ()) == ()


@given(
    st.lists(st.lists(st.sampled_from([1200, 1600, 2000, 2380, 2400]), min_size=1, max_size=4), max_size=8)
)
def test_no_stretch_counts_that_is_of_two_states_but_in_a_known_range(
    stretches: list[list[int]],
) -> None:
    clocks = rested()
    states: list[int] = []
    for stretch in stretches:
        if clocks.assess([phone(mhz) for mhz in stretch]) is None:
            within = clocks.range_mhz(BIG)
            if within is None:
                assert min(stretch) >= 0.98 * max(stretch)
            else:
                assert within[0] >= UNSTEADY_SHARE * within[1]
                assert 0.98 * within[0] <= min(stretch) and 0.98 * max(stretch) <= within[1]
            states.append(min(stretch))
            assert all(min(stretch) >= 0.98 * (p.allowed_max_khz or 0) / 1000 for p in clocks.expected[1:])


def test_a_phone_warms_up_until_it_is_known_to_keep_its_clocks() -> None:
    command = ("taskset", "f0", "benchmark_model", "--graph=m", "--min_secs=0.02")
    clocks = rested()
    assert clocks.warm_up(command, seconds=1).least == 2
    clocks.assess([PEAK])
    assert clocks.warm_up(command, seconds=1).least == 0
    clocks.assess([PEAK, CAPPED])
    found = clocks.warm_up(command, seconds=1)
    assert (found.least, found.most) == (2, 60), "the first was too short"
    assert found.target == ((0, 1_836_734), (4, 2_040_816)), "until the clock is as low as it was seen"
    clocks.assess([CAPPED])
    assert clocks.expected == CAPPED
    assert clocks.warm_up(command, seconds=1) == found


class Loaded:
    """A phone whose clock follows its seconds of load, through a job's warm-up and timings."""

    def __init__(self, mhz_after: Callable[[float], float]) -> None:
        self.mhz_after = mhz_after
        self.clocks = rested(BIG)
        self.drops: list[str] = []
        self.news: list[str] = []
        self.counted: list[list[float]] = []

    def stretch(self, load_s: float, *, is_first: bool) -> tuple[list[float], float]:
        """The clocks of a stretch of 25 timings, and the load at its end."""
        warm_up = self.clocks.warm_up(("bm",), seconds=1)
        if warm_up.least == 0 or not is_first:
            load_s += 0.3
        else:
            hot = 0.0
            for piece in range(1, warm_up.most + 1):
                load_s += 1
                before, hot = hot, self.mhz_after(load_s)
                settled = 1000 * hot <= dict(warm_up.target)[4] if warm_up.target else hot == before
                if piece >= warm_up.least and settled:
                    break
        seen = [self.mhz_after(load_s + 0.55 * index) for index in range(26)]
        return seen, load_s + 0.55 * 25

    def measure(self, stretches: int) -> bool:
        """Whether all count before one has been dropped more than MAX_DROPS times."""
        load_s, is_first, drops = 0.0, True, 0
        while len(self.counted) < stretches:
            seen, load_s = self.stretch(load_s, is_first=is_first)
            reason = self.clocks.assess([phone(int(mhz)) for mhz in seen])
            self.news += [self.clocks.news] if self.clocks.news else []
            is_first = reason is not None
            if reason is None:
                self.counted.append(seen)
                drops = 0
                continue
            drops, load_s = drops + 1, 0.0
            self.drops.append(reason)
            if drops > MAX_DROPS:
                return False
            self.clocks.rested(PEAK)
        return True


@pytest.mark.parametrize(
    ("mhz_after", "most_drops", "range_mhz"),
    [
        (lambda s: 2400 if s < 1.5 else 2000, 1, None),
        (lambda s: 2400 if s < 5 else 2000, 1, None),
        (lambda s: 2400 if s < 10 else 2000, 1, None),
        (lambda s: 2400 if s < 20 else 2000, 1, None),
        (lambda s: 2400 if s < 45 else 1300, 2, None),
        (lambda s: 2400 if s < 1.5 else 2000 if s < 20 else 1800, 2, None),
        (lambda s: 2400 if s < 1.5 else 2000 if int(s) % 2 else 2200, 2, (2000, 2200)),
        (lambda s: 2400 if s < 1.5 else 2000 if int(s / 7) % 2 else 2100, 2, (2000, 2100)),
        (lambda s: 2400 if s < 1.5 else 2000 if int(s / 7) % 2 else 2200, 2, (2000, 2200)),
    ],
)
def test_a_clock_that_settles_late_or_in_steps_or_never_still_gives_all_results(
    mhz_after: Callable[[float], float], most_drops: int, range_mhz: tuple[float, float] | None
) -> None:
    found = Loaded(mhz_after)
    assert found.measure(20), found.drops
    assert len(found.drops) <= most_drops, found.drops
    assert found.clocks.range_mhz(BIG) == range_mhz
    assert found.clocks.range_mhz(LITTLE) is None
    words = "holds" if range_mhz is None else "the clocks of this phone vary: cores 4 to 7 at 2000 to 2"
    assert any(words in news for news in found.news)
    assert len(found.news) == len(set(found.news)), "each is told once"


def test_a_clock_that_was_higher_for_earlier_results_is_told_so() -> None:
    found = Loaded(lambda s: 2400 if s < 20 else 2000)
    assert found.measure(5)
    assert found.counted[0] == [2400] * 26 and found.counted[-1] == [2000] * 26
    (news,) = found.news
    assert news.endswith(
        "Earlier timings ran at another clock; the clock of each timing is recorded with it."
    )


@pytest.mark.parametrize(
    "mhz_after",
    [
        lambda s: 2400 - 40 * s if s < 50 else 400,  # falls on and on
        lambda s: 2400 if int(s) % 2 else 1200,
    ],
)
def test_a_clock_that_keeps_falling_or_goes_far_is_throttling(mhz_after: Callable[[float], float]) -> None:
    found = Loaded(mhz_after)
    found.measure(20)
    for seen in found.counted:
        assert min(seen) >= 0.98 * max(seen)


def test_load_is_the_same_work_without_a_result() -> None:
    command = (
        "taskset",
        "f0",
        "bm",
        "--graph=m",
        "--warmup_min_secs=0.05",
        "--num_runs=5",
        "--min_secs=0.02",
    )
    words = load_words((*command, "--max_secs=150", "--result_file_path=result.pb", "--use_xnnpack=true"))
    assert WarmUp(words, 0, 1.0).short_words == (
        *("taskset", "f0", "bm", "--graph=m", "--warmup_min_secs=0", "--num_runs=1"),
        *("--max_secs=5", "--use_xnnpack=true", "--min_secs=0.3"),
    )
    assert WarmUp(words, 2, 1.0).long_words[-1] == "--min_secs=1"


def test_a_mode_that_takes_hold_late_is_waited_for() -> None:
    sleeper = Sleeper()
    readings = iter([PEAK, PEAK, CAPPED, CAPPED, CAPPED, CAPPED])
    wait_for_clocks(lambda: next(readings), sleep=sleeper, agreeing=4)
    assert sleeper.slept == [0.5] * 5
    assert next(readings, None) is None


def test_clocks_that_come_back_after_load_are_waited_for_and_not_for_ever() -> None:
    sleeper = Sleeper()
    readings = iter([CAPPED, CAPPED, PEAK])
    wait_for_clocks(lambda: next(readings), sleep=sleeper, agreeing=1, expected=PEAK)
    assert sleeper.slept == [0.5] * 2
    wait_for_clocks(lambda: CAPPED, sleep=sleeper, agreeing=1, expected=PEAK)
    assert sum(sleeper.slept) == 1 + 5
    wait_for_clocks(lambda: (), sleep=sleeper, agreeing=4)
    assert sum(sleeper.slept) == 1 + 5, "a phone that tells none is not waited for"


# Cores


class Answering:
    """A transport that gives each command its answer; it notes what was asked."""

    serial = "answering"

    def __init__(self, answers: dict[str, Completed]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def run(self, argv: tuple[str, ...], *, timeout_s: float) -> Completed:
        assert timeout_s > 0
        self.asked.append(" ".join(argv))
        return self.answers.get(" ".join(argv), Completed(b"", b"not found", 127))


def as_transport(fake: Answering) -> Transport:
    return fake  # type: ignore[return-value]


def test_cores_are_chosen_once_and_all_are_used_where_a_phone_does_not_give_them() -> None:
    told: list[str] = []
    gives = Answering({"taskset f0 true": Completed(b"", b"", 0)})
    cores = Cores(told.append)
    for _ in range(2):
        assert cores.mask(as_transport(gives), RuntimeOptions(), PEAK) == 0xF0
    assert gives.asked == ["taskset f0 true"] and told == []
    refuses = Answering({"taskset f0 true": Completed(b"", b"failed to set pid 7's affinity", 1)})
    cores = Cores(told.append)
    for _ in range(2):
        assert cores.mask(as_transport(refuses), RuntimeOptions(), PEAK) is None
    assert len(told) == 1 and "0xf0" in told[0]
    assert cores.mask(as_transport(refuses), RuntimeOptions(cpu="big"), PEAK) == 0xF0, "what was asked for"
    assert cores.mask(as_transport(refuses), RuntimeOptions(), ()) is None


def cluster(cores: tuple[int, ...], mhz: int | None) -> CpuPolicy:
    return CpuPolicy(cores[0], cores, None, None, None if mhz is None else 1000 * mhz)


TENSOR = (cluster(LITTLE, 1704), cluster(BIG, 2367), cluster((8,), 2914))
SNAPDRAGON_8 = (cluster(LITTLE, 2016), cluster((4, 5, 6), 2803), cluster((7,), 3187))
TWO_AND_SIX = (cluster((0, 1, 2, 3, 4, 5), 2000), cluster((6, 7), 2600))


@pytest.mark.parametrize(
    ("policies", "threads", "mask"),
    [
        (TENSOR, 1, 0x100),
        (TENSOR, 2, 0x0F0),
        (TENSOR, 4, 0x0F0),
        (TENSOR, 5, 0x1F0),
        (TENSOR, 6, None),
        (SNAPDRAGON_8, 1, 0x80),
        (SNAPDRAGON_8, 3, 0x70),
        (SNAPDRAGON_8, 4, 0xF0),
        (TWO_AND_SIX, 1, 0xC0),
        (TWO_AND_SIX, 4, None),
        (TENSOR[:1], 1, None),
        ((), 1, None),
        ((cluster(LITTLE, None), *TENSOR[1:]), 1, None),
    ],
)
def test_auto_is_the_fastest_cluster_with_a_core_for_each_thread(
    policies: Policies, threads: int, mask: int | None
) -> None:
    assert cpu_mask(RuntimeOptions(threads=threads), policies) == mask


def test_masks_become_cores_and_conditions_say_how_fast_they_were() -> None:
    assert cores_of(0x1F0, ()) == (4, 5, 6, 7, 8)
    assert cores_of(None, PEAK) == (*LITTLE, *BIG)
    assert cores_of(None, ()) is None
    assert all_of([(4, 5), (5, 8)]) == {4, 5, 8}
    assert all_of([(4,), None]) is None
    before = Conditions(at=datetime(2026, 11, 23, tzinfo=UTC), battery_percent=90)
    seen = (PEAK[0], CpuPolicy(4, BIG, 2_000_000, 2_000_000, 2_400_000))
    found = clocked(before, seen, LITTLE)
    assert (found.cores, found.core_mhz, found.cpu_mhz) == (LITTLE, 600, 2000)
    assert found.battery_percent == 90
    assert clocked(before, seen, BIG).core_mhz == 2000
    assert clocked(before, (), None).core_mhz is None


@pytest.mark.parametrize(
    ("cores", "mhz", "words"),
    [
        ((8,), 2914.0, "core 8 at 2914 MHz"),
        ((4, 5, 6, 7), 2000.4, "cores 4 to 7 at 2000 MHz"),
        ((0, 4, 5), None, "cores 0, 4, 5"),
        ((), 1000.0, ""),
        (None, None, ""),
    ],
)
def test_cores_are_told(cores: tuple[int, ...] | None, mhz: float | None, words: str) -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    assert Conditions(at=at, cores=cores, core_mhz=mhz).describe_cores() == words


# Fixed-performance mode

_ASK = " ".join(ASK)
_UNSUPPORTED = (
    b"Failed to set FIXED_PERFORMANCE mode\n"
    b"This is likely because Power HAL AIDL is not implemented on this device\n"
)


def test_a_phone_says_whether_it_has_the_mode_and_is_never_left_in_it() -> None:
    has = Answering({_ASK: Completed(b"", b"", 0)})
    assert has_fixed_performance(as_transport(has)) == (True, "")
    lacks = Answering({_ASK: Completed(b"", _UNSUPPORTED, 255)})
    answer, words = has_fixed_performance(as_transport(lacks))
    assert not answer and words.startswith("Failed to set FIXED_PERFORMANCE mode This is likely")
    assert has_fixed_performance(as_transport(Answering({}))) == (False, "not found")


def test_the_answer_is_the_one_to_on_and_the_mode_is_off_again(tmp_path: Path) -> None:
    """Some vendors take "off" and refuse "on"."""
    program = tmp_path / "cmd"
    program.write_text('#!/bin/sh\necho "$@" >>asked\n[ $3 = false ] || { echo "Failed" >&2; exit 255; }\n')
    program.chmod(0o755)
    done = subprocess.run(
        ASK, cwd=tmp_path, env={"PATH": f"{tmp_path}:{os.defpath}"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (255, b"Failed\n")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["true", "false"]


@pytest.mark.parametrize(("note", "answer"), [(b"true\n", True), (b"false\n", False)])
def test_a_phone_on_which_another_run_measures_is_not_asked(note: bytes, answer: bool) -> None:
    busy = Answering({f"cat {ANSWER}": Completed(note, b"", 0), _ASK: Completed(b"", b"", 0)})
    assert has_fixed_performance(as_transport(busy)) == (answer, "")
    assert _ASK not in busy.asked


def test_a_note_that_is_damaged_is_not_believed() -> None:
    torn = Answering({f"cat {ANSWER}": Completed(b"tr", b"", 0), _ASK: Completed(b"", b"", 0)})
    assert has_fixed_performance(as_transport(torn)) == (True, "")
