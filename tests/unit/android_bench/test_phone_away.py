"""A phone that falls silent or stays away: the device gives up in time, says so, and loses nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from benchmarks._fault_run import (
    COARSE_S,
    DESCRIPTION,
    LeapingClock,
    Trap,
    left_behind,
    log_timings,
    requests,
    taken_timings,
)
from benchmarks.phone_faults import IN_ANSWER_BYTES
from nasflow.base.errors import DeviceLostError, NoUsableDeviceError, UsageError

pytestmark = pytest.mark.needs("bubblewrap")

PATIENCE_S = 50.0


@pytest.fixture(scope="module")
def shared_phone() -> Iterator[VirtualPhone]:
    with running_phone(description=DESCRIPTION) as phone:
        log_timings(phone)
        yield phone


@pytest.fixture
def phone(shared_phone: VirtualPhone) -> Iterator[VirtualPhone]:
    yield shared_phone
    shared_phone.faults.clear()
    shared_phone.start_daemon()
    taken_timings(shared_phone)


class Away:
    """A device whose phone fails at a moment, its clock, and what it told."""

    def __init__(self, phone: VirtualPhone, key: Path, moment: str, strike: Callable[[], None]) -> None:
        self.clock = LeapingClock(lambda: phone.faults.is_silent)
        self.told: list[str] = []
        self.struck_at = 0.0

        def spring() -> None:
            self.struck_at = self.clock()
            strike()

        inner = DirectTransport(phone.address, key=key, clock=self.clock)
        self.device = AndroidDevice(
            Trap(inner, moment, spring),  # type: ignore[arg-type]
            runner=no_runner,  # type: ignore[arg-type]
            clock=self.clock,
            sleep=self.clock.sleep,
            tell=self.told.append,
            patience_s=PATIENCE_S,
        )

    def passed_s(self) -> float:
        return self.clock() - self.struck_at

    def repeated(self) -> int:
        """Timings that were taken once more because something disturbed the phone: on a busy computer."""
        found = (re.match(r"(\d+) timings? .*discarded and repeated", line) for line in self.told)
        return sum(int(match[1]) for match in found if match)


def no_runner(abi: str) -> object:
    raise UsageError(f"one for {abi} was asked for")


@pytest.mark.parametrize("moment", ["push", "poll"])
def test_a_frozen_connection_is_given_up_in_time_and_said_so(
    phone: VirtualPhone, tmp_path: Path, moment: str
) -> None:
    away = Away(
        phone, tmp_path / "key", moment, lambda: phone.faults.set(FaultPlan(freeze_after_received_bytes=30))
    )
    with pytest.raises(DeviceLostError, match=r"did not reconnect within 50 s.*does not answer") as caught:
        list(away.device.benchmark_many(requests()))
    assert caught.value.exit_code == 5
    assert "continues from there" in caught.value.hint
    assert 30 + PATIENCE_S <= away.passed_s() <= 31 + PATIENCE_S + 2 + 3 * COARSE_S
    assert any("was lost: no answer within 3" in line for line in away.told)
    away.device.close()
    phone.faults.clear()
    later = Away(phone, tmp_path / "key", "connect", lambda: None)
    assert [index for index, _ in later.device.benchmark_many(requests())] == [0, 1, 2, 3]
    later.device.close()
    assert taken_timings(phone) == 4 + away.repeated() + later.repeated()
    assert left_behind(phone) == []


def test_a_phone_that_is_frozen_from_the_start_is_not_usable(phone: VirtualPhone, tmp_path: Path) -> None:
    away = Away(
        phone, tmp_path / "key", "connect", lambda: phone.faults.set(FaultPlan(freeze_after_sent_bytes=0))
    )
    with pytest.raises(NoUsableDeviceError, match="does not answer: no answer within 15 s"):
        away.device.info()
    assert away.passed_s() <= 15 + COARSE_S
    away.device.close()


def test_closing_does_not_wait_for_a_phone_that_is_away_and_says_what_stays(
    phone: VirtualPhone, tmp_path: Path
) -> None:
    def gone() -> None:
        phone.faults.set(FaultPlan(offline=True))
        phone.disconnect()

    away = Away(phone, tmp_path / "key", "poll", gone)
    with pytest.raises(DeviceLostError):
        list(away.device.benchmark_many(requests()))
    before, told = away.clock(), len(away.told)
    away.device.close()
    assert away.clock() - before <= 5 + COARSE_S
    assert [line.partition(";")[0] for line in away.told[told:]] == [
        "Files may remain on the phone",
        "The phone's settings are not restored yet",
    ]
    away.device.close()
    assert len(away.told) == told + 2
    phone.faults.clear()
    later = Away(phone, tmp_path / "key", "connect", lambda: None)
    assert len(list(later.device.benchmark_many(requests()))) == 4
    later.device.close()
    assert left_behind(phone) == []


def test_closing_cleans_a_phone_that_came_back(phone: VirtualPhone, tmp_path: Path) -> None:
    away = Away(phone, tmp_path / "key", "poll", phone.kill_daemon)
    with pytest.raises(DeviceLostError, match="refused"):
        list(away.device.benchmark_many(requests()))
    phone.start_daemon()
    told = len(away.told)
    away.device.close()
    assert away.told[told:] == []
    assert "stays awake" not in left_behind(phone)
    later = Away(phone, tmp_path / "key", "connect", lambda: None)
    assert len(list(later.device.benchmark_many(requests()))) == 4
    later.device.close()
    assert left_behind(phone) == []


def test_the_answer_to_the_start_may_be_lost_and_the_job_runs_once(
    phone: VirtualPhone, tmp_path: Path
) -> None:
    away = Away(
        phone,
        tmp_path / "key",
        "start",
        lambda: phone.faults.set(FaultPlan(drop_after_sent_bytes=IN_ANSWER_BYTES)),
    )
    assert len(list(away.device.benchmark_many(requests()))) == 4
    assert any("is connected again" in line for line in away.told)
    away.device.close()
    assert taken_timings(phone) == 4 + away.repeated()
