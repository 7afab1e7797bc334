"""What ``nasflow doctor --device android`` looks at: the whole way to a phone, step by step."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.base.errors import NasflowError
from nasflow.base.text import shown_ms
from nasflow.doctor.checks import Check

if TYPE_CHECKING:
    from android_bench.bundle.recording import Recorder
    from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
    from android_bench.found_phone import FoundPhone
    from android_bench.transport import Transport
    from nasflow.config import PipelineConfig

NEEDED_PHONE_BYTES = 500_000_000
_TIMEOUT_S = 15.0


def examine_phone(
    config: PipelineConfig, base_dir: Path, recorder: Recorder | None = None
) -> Iterator[Check]:
    """Keys, connection, space, tool, a trial of some seconds, conditions; ends where the way ends.

    ``recorder`` is given all that the phone answers, and a short measurement beside.
    """
    yield _failing("adb key", check_key)
    found: list[FoundPhone] = []
    check = _failing("phone", lambda: _phone(config, found, recorder))
    yield check
    if not found:
        return
    chosen = found[0]
    wrap = recorder.wrap if recorder else _as_it_is
    if recorder:
        recorder.names.update(name for way in chosen.ways() for name in (way.serial, way.identity.serial))
        yield _failing("phone answers", lambda: _asked_again(chosen, wrap))
    _begin(recorder, "space")
    yield _failing("phone space", lambda: _space(chosen, wrap))
    from nasflow.devices import phone

    messages: list[str] = []
    with closing(
        phone(config.device, config.android, base_dir, messages.append, offline=config.offline, wrap=wrap)
    ) as device:
        _begin(recorder, "tool")
        check = _failing("phone tool", lambda: _tool(device, messages))
        yield check
        if check.state != "failed":
            _begin(recorder, "trial")
            yield _failing("phone trial", lambda: _trial(device, config, base_dir))
            _begin(recorder, "state")
            yield _failing("phone state", lambda: _state(device))
    if recorder and check.state != "failed":
        from nasflow.doctor.bundle import MEASUREMENT, measure

        _begin(recorder, MEASUREMENT)
        with closing(
            phone(config.device, config.android, base_dir, messages.append, offline=config.offline, wrap=wrap)
        ) as device:
            yield _failing("phone measurement", lambda: _measured(device, config, recorder, measure))


def _as_it_is(transport: Transport) -> Transport:
    return transport


def _begin(recorder: Recorder | None, part: str) -> None:
    if recorder:
        recorder.part = part


def _asked_again(chosen: FoundPhone, wrap: Callable[[Transport], Transport]) -> Check:
    """What it is, asked again to be recorded: other phones were asked, too, and are nobody's business."""
    from android_bench.discover import ask, open_found

    with closing(wrap(open_found(chosen))) as transport:
        return Check("phone answers", "ok", ask(chosen, transport).describe())


def _measured(
    device: Device,
    config: PipelineConfig,
    recorder: Recorder,
    measure: Callable[[Device, RuntimeOptions], Check],
) -> Check:
    recorder.info = device.info()
    return measure(device, config.runtime)


def _failing(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except NasflowError as error:
        return Check(name, "failed", error.message, error.hint)


def check_key() -> Check:
    """The key by which phones know this computer: made when missing, and for its owner alone."""
    from android_bench.adb.keys import default_key, ensure_key

    path = default_key()
    made = ensure_key(path)
    if os.name != "nt" and path.stat().st_mode & 0o077:
        return Check(
            "adb key",
            "warning",
            f"other users of this computer can read {path}: whoever has this key can use your phone",
            f"chmod 600 {shlex.quote(str(path))}",
        )
    return Check(
        "adb key", "ok", f"{path}{', just created: the phone will ask for approval' if made else ''}"
    )


def _phone(config: PipelineConfig, found: list[FoundPhone], recorder: Recorder | None = None) -> Check:
    from android_bench.discover import choose, find_phones, wanted_name
    from android_bench.transport import split_host_port

    wanted = wanted_name(config.device.partition(":")[2])
    addresses = [wanted] if split_host_port(wanted) else []
    seen: tuple[FoundPhone, ...] = ()
    try:
        seen = find_phones(config.android.transport, addresses=addresses)
        chosen = choose(wanted, seen)
    except NasflowError as error:
        if recorder:
            from android_bench.bundle.search import record_search

            record_search(recorder, config.android.transport, wanted, seen, error)
        raise
    found.append(chosen)
    ways = {"server": "through the adb server", "usb": "on USB", "tcp": "on the network"}
    return Check("phone", "ok", f"{chosen.describe()}, {ways[chosen.way]}")


def _space(chosen: FoundPhone, wrap: Callable[[Transport], Transport] = _as_it_is) -> Check:
    """``df -k``: its last line has the size, what is used and what is left, in units of 1024 bytes."""
    from android_bench.discover import open_found

    with closing(wrap(open_found(chosen))) as transport:
        done = transport.run(["df", "-k", "/data/local/tmp"], timeout_s=_TIMEOUT_S)
    numbers = re.findall(r"\s(\d+)\s+(\d+)\s+(\d+)\s", done.stdout.decode("ascii", "replace"))
    if not numbers:
        return Check("phone space", "warning", "cannot be read", "Keep half a gigabyte free.")
    free = 1024 * int(numbers[-1][2])
    said = f"{free / 1e9:.1f} GB free"
    if free < NEEDED_PHONE_BYTES:
        return Check("phone space", "failed", said, "Free half a gigabyte on the phone.")
    return Check("phone space", "ok", said)


def _tool(device: Device, messages: list[str]) -> Check:
    info = device.info()
    news = "".join(f"\n{text}" for text in messages)
    return Check("phone tool", "ok", f"{info.runtime} ({info.binary_sha256[:12]}){news}")


def _trial(device: Device, config: PipelineConfig, base_dir: Path) -> Check:
    """A network, and what the stage profile times that is shortest, each as that stage asks for it."""
    requests = _trial_requests(config, base_dir)
    measured = [measurement for _, measurement in device.benchmark_many(requests)]
    network, *short = measured
    spread = 50 * (network.p95_ms - network.p5_ms) / network.median_ms
    others = ", ".join(
        f"{request.name} {shown_ms(measurement.median_ms, measurement.resolution_ms)}"
        for request, measurement in zip(requests[1:], short, strict=True)
    )
    cores = network.conditions.describe_cores() if network.conditions else ""
    return Check(
        "phone trial",
        "ok",
        f"{requests[0].name}, {config.runtime.describe()}{', ' if cores else ''}{cores}: "
        f"{network.median_ms:.3f} ms (±{spread:.0f} % within a second); {others}",
    )


def _trial_requests(config: PipelineConfig, base_dir: Path) -> list[BenchmarkRequest]:
    from android_bench.device import BenchmarkRequest
    from nasflow.doctor.trial_model import trial_model
    from stages.conversion.flatbuffer import empty_model
    from stages.conversion.measured import measured_block
    from stages.measurement.config import with_shared
    from stages.space import load_space

    precision = config.runtime.precision
    network = trial_model(96, precision)
    block = min(load_space(config.space, base_dir).distinct_blocks(), key=lambda block: block.macs)
    timing = with_shared(config.profile, config.measurement)
    short = {
        "the empty model": empty_model(),
        f"the smallest block ({block.key})": measured_block(
            block, precision=precision, output=config.convert.output, seed=config.seed
        ),
    }
    return [
        BenchmarkRequest(
            name=network.name,
            model=network.model,
            options=config.runtime,
            warmup_ms=100.0,
            min_ms=1000.0,
        ),
        *(
            BenchmarkRequest(
                name=name,
                model=model,
                options=config.runtime,
                warmup_ms=timing.warmup_ms,
                min_ms=timing.min_ms,
                min_runs=timing.min_runs,
            )
            for name, model in short.items()
        ),
    ]


def _state(device: Device) -> Check:
    state = device.conditions()
    known = (
        ("battery", state.battery_percent, "{:.0f} %"),
        ("skin", state.skin_celsius, "{:.1f} °C"),
        ("clock", state.cpu_mhz, "{:.0f} MHz"),
    )
    said = [f"{name} {form.format(value)}" for name, value, form in known if value is not None]
    unknown = [name for name, value, _ in known if value is None]
    if unknown:
        said.append(f"{', '.join(unknown)} cannot be read")
    return Check("phone state", "ok", ", ".join(said))
