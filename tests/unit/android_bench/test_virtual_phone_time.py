"""Time on the virtual phone: its tool's clock is set while it runs, and everything takes longer asleep."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.runner.output import parse_output
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.device_folder import DeviceFolder
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import running_phone
from android_bench.virtual_phone.phone_time import CLOCK_FILE, WallClock, asleep_from_s
from stages.conversion.flatbuffer import empty_model

pytestmark = pytest.mark.needs("bubblewrap")

MODEL = "/data/local/tmp/model.tflite"


@pytest.mark.parametrize("offset_s", [0, 1, -1, 10**9, -(10**9)])
def test_a_clock_under_way_is_set_at_once(tmp_path: Path, offset_s: int) -> None:
    folder = DeviceFolder(tmp_path, PhoneDescription())
    folder.create()
    folder.refresh(FaultPlan(), 0.0)
    clock = WallClock(folder.phone / CLOCK_FILE, lambda: 5_000)
    assert clock() == 5_000
    folder.refresh(FaultPlan(clock_offset_s=offset_s), 0.0)
    assert clock() == 5_000 + 10**9 * offset_s
    folder.refresh(FaultPlan(), 0.0)
    assert clock() == 5_000


def test_a_phone_is_asleep_from_when_it_falls_asleep() -> None:
    assert asleep_from_s("", 100.0) is None
    assert asleep_from_s("0", 100.0) == 100.0
    assert asleep_from_s("250", 100.0) == 102.5
    assert asleep_from_s("-50", 100.0) == 99.5


def test_everything_takes_longer_asleep(tmp_path: Path) -> None:
    with (
        running_phone(description=PhoneDescription(run_us=1_000)) as phone,
        closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport,
    ):
        transport.push(empty_model(), MODEL, timeout_s=20)

        def shortest_us(plan: FaultPlan) -> float:
            phone.faults.set(plan)
            words = ["benchmark_model", f"--graph={MODEL}", "--num_runs=20", "--min_secs=0"]
            found = parse_output(transport.run(words, timeout_s=60).stdout).inference.min_us
            assert found is not None
            return found

        awake_us = shortest_us(FaultPlan(sleep_slowdown=100))
        assert 1_000 <= awake_us <= 2_020
        asleep_us = shortest_us(FaultPlan(asleep=True, sleep_slowdown=100))
        assert asleep_us == pytest.approx(100 * awake_us, rel=0.01)
