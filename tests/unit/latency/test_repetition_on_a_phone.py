"""Several copies of a block, through the whole wire: sent by adb, run by the tool on the virtual phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.memory_context import memory_context

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import RuntimeOptions
from android_bench.virtual_phone.phone import running_phone
from stages.conversion.flatbuffer import block_model, empty_model
from stages.measurement.config import MeasurementConfig
from stages.measurement.repetition import Repeatable
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.space.block_spec import BlockSpec

pytestmark = pytest.mark.needs("bubblewrap")

BLOCK = BlockSpec(kind="mbconv", kernel=3, expansion=2, in_channels=8, out_channels=8, resolution=4)
SIDE = BLOCK.model_copy(update={"stride": 2})


def test_copies_go_through_adb_and_the_tool(tmp_path: Path) -> None:
    config = MeasurementConfig(rounds=3, extra_rounds=0, warmup_ms=1, min_ms=2)

    def repeatable(block: BlockSpec) -> Repeatable:
        return Repeatable(lambda copies: block_model(block, copies=copies), block.copy_bytes)

    def no_runner(abis: object) -> object:
        raise AssertionError(f"a virtual phone brings its own tool, and one for {abis} was asked for")

    work = Work(
        {"empty": empty_model(), BLOCK.key: block_model(BLOCK), SIDE.key: block_model(SIDE)},
        repeatable={block.key: repeatable(block) for block in (BLOCK, SIDE)},
        invoke="empty",
    )
    with running_phone() as phone:
        transport = DirectTransport(phone.address, key=tmp_path / "adbkey")
        device = AndroidDevice(transport, runner=no_runner, limits=None)  # type: ignore[arg-type]
        try:
            measured = measure_rounds(
                memory_context("profile"), device, work, config, RuntimeOptions(), seed=0
            )
        finally:
            device.close()
    for block in (BLOCK, SIDE):
        copies = measured.copies[block.key]
        assert copies > 1
        names = {timing.name for timing in measured.timings}
        assert {block.key, f"{block.key} x{copies}"} <= names
        assert measured.by_name[block.key].rounds >= 2
    assert measured.copies["empty"] == 1
