"""From ``device: android`` and the section ``android`` to a phone that measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from android_bench.device import PHONE_OVERHEAD, Device
from android_bench.lazy import LazyDevice
from android_bench.phone.conditions import MOST_THERMAL_STATUS
from android_bench.transport import Transport
from pipeline.artifact import Record

if TYPE_CHECKING:
    from android_bench.found_phone import FoundPhone


class AndroidConfig(Record):
    """How a phone is reached, and what it must keep to be measured."""

    transport: Literal["auto", "direct", "server"] = Field(
        "auto",
        description="how the phone is reached: auto (a running adb server that lists it, otherwise "
        "directly), direct or server",
    )
    runner: str = Field(
        "auto",
        min_length=1,
        description="Google's benchmark_model: auto (the runtime's version, downloaded once), or a path",
    )
    npu_libraries: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._-]+)*$",
        description="with runtime.delegate npu: folder on the phone with LiteRT's dispatch library and "
        "compiler plugin for its NPU, as in /data/local/tmp/npu; empty: where the tool looks itself",
    )
    min_battery_percent: float = Field(
        30.0, ge=0, le=100, description="do not measure a phone whose battery is below this"
    )
    max_thermal_status: int = Field(
        0,
        ge=0,
        le=MOST_THERMAL_STATUS,
        description="highest thermal status at which the phone is measured: 0 none, 1 light, 2 moderate, 3 "
        "severe",
    )
    cooling_minutes: float = Field(10.0, ge=0, le=240, description="how long to wait for a hot phone to cool")
    patience_minutes: float = Field(
        5.0, ge=0, le=240, description="how long to wait for a phone that was unplugged"
    )


def on_a_phone(device: str) -> bool:
    """Whether ``--device`` names a phone: its runtime is another one than this computer's."""
    return device.partition(":")[0] == "android"


def phone(
    name: str,
    config: AndroidConfig,
    project: Path,
    tell: Callable[[str], None],
    *,
    offline: bool = False,
    found: FoundPhone | None = None,
    wrap: Callable[[Transport], Transport] = lambda transport: transport,
) -> Device:
    """The phone that ``android``, ``android:SERIAL`` or ``android:HOST:PORT`` stands for.

    Nothing is looked for before it is needed; then NoUsableDeviceError is raised where there is none, or
    several and none is named; ``found`` is the phone itself, of a search that was made already. ``project``
    is the folder of ``pipeline.yaml``; ``offline`` never downloads.
    ``wrap`` may put something between the device and the way to its phone.
    """

    def find() -> Device:
        from android_bench.android import AndroidDevice
        from android_bench.discover import choose, find_phones, open_found, wanted_name
        from android_bench.phone.conditions import Limits
        from android_bench.runner.download import Runner, obtain
        from android_bench.transport import split_host_port

        chosen = found
        if chosen is None:
            wanted = wanted_name(name.partition(":")[2])
            addresses = [wanted] if split_host_port(wanted) else []
            chosen = choose(wanted, find_phones(config.transport, addresses=addresses))

        def runner(abis: Sequence[str]) -> Runner:
            return obtain(config.runner, abis=abis, project=project, offline=offline)

        return AndroidDevice(
            wrap(open_found(chosen)),
            runner=runner,
            limits=Limits(
                min_battery_percent=config.min_battery_percent,
                max_thermal_status=config.max_thermal_status,
                cooling_s=60 * config.cooling_minutes,
            ),
            npu_libraries=config.npu_libraries,
            tell=tell,
            patience_s=60 * config.patience_minutes,
        )

    return LazyDevice(find, PHONE_OVERHEAD)
