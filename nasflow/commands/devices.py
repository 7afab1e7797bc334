"""``nasflow devices``: which phones are connected, what to do about those that cannot be used, and GPUs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from android_bench.discover import find_phones, wanted_name
from android_bench.found_phone import FoundPhone, name_of
from android_bench.local.cuda_device import Gpu, driver_is_here, find_gpus
from android_bench.transport import split_host_port
from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from nasflow.cli.options import AsJson
from nasflow.cli.request import Action, Outcome

_WAYS = {"usb": "USB", "tcp": "network", "server": "adb server"}
_FIELD_CHARACTERS = 60
_NAME_CHARACTERS = 200
GIB = 2**30
_NONE_FOUND = (
    "the cable: one that carries data, plugged in at both ends;",
    "the phone: unlocked, with 'USB debugging' on (Settings, System, Developer options; they appear after "
    "seven taps on the build number in 'About phone');",
    "Linux: a udev rule for the phone's maker (Debian: package android-sdk-platform-tools-common);",
    "a phone on the network: nasflow devices --address HOST:PORT;",
    "no phone available: 'nasflow virtual-phone' simulates one for tests",
)


def list_devices(addresses: Sequence[str]) -> Outcome:
    """What is connected now; an empty list is an outcome, too. Raises UsageError for no HOST:PORT."""
    for address in addresses:
        if split_host_port(address) is None:
            raise UsageError(
                f"--address {address!r} is not of the form HOST:PORT.",
                hint="For example: --address 192.168.1.20:5555.",
            )
    wanted = wanted_name()
    asked = [*addresses, *([wanted] if split_host_port(wanted) else [])]
    phones = find_phones(addresses=asked, offers=True)
    shown = [_shown(phone, name_of(phone, phones)) for phone in phones]
    gpus, why_none = find_gpus() if driver_is_here() else ((), "")
    return Outcome(
        document={
            "gpus": [asdict(gpu) for gpu in gpus],
            "why_no_gpu": why_none,
            "phones": shown,
            "usable": sum(phone.usable for phone in phones),
            "advice": [] if phones else list(_NONE_FOUND),
        },
        text="\n".join([*_gpu_lines(gpus, why_none), *_lines(shown)]),
    )


def _gpu_lines(gpus: Sequence[Gpu], why_none: str) -> list[str]:
    """``cuda:0  NVIDIA H200, 140 GiB``; what is wrong where the driver is there and PyTorch has none."""
    if why_none:
        return [f"NVIDIA's driver is here, and yet no GPU can be measured: {why_none}.", ""]
    lines = [f"{gpu.name}  {gpu.model}, {gpu.memory_bytes / GIB:.0f} GiB" for gpu in gpus]
    return [*lines, f"Next: nasflow doctor --device {gpus[0].name}", ""] if gpus else []


def _shown(phone: FoundPhone, name: str) -> dict[str, Any]:
    """A phone's fields, and what to call it; its own words without escapes, on one line, and short."""
    details = {
        field: _line(getattr(phone, field))
        for field in ("serial", "way", "state", "model", "soc", "android", "cores", "gpu", "npu")
    }
    return {
        **details,
        "usable": phone.usable,
        "advice": phone.advice,
        "device": f"android:{_line(name, limit=_NAME_CHARACTERS)}" if phone.usable else "",
        "transport_id": phone.transport_id,
        "other_ways": [
            {
                "serial": _line(other.serial, limit=_NAME_CHARACTERS),
                "way": other.way,
                "state": _line(other.state),
                "transport_id": other.transport_id,
            }
            for other in phone.others
        ],
    }


def _line(text: str, limit: int = _FIELD_CHARACTERS) -> str:
    return plain_line(text, limit=limit)


def _lines(phones: Sequence[dict[str, Any]]) -> list[str]:
    if not phones:
        return ["No phone is connected. Check:", *(f"  - {line}" for line in _NONE_FOUND)]
    rows = [_cells(phone) for phone in phones]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for phone, row in zip(phones, rows, strict=True):
        lines.append("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip())
        lines += [f"  offers {offered}" for offered in filter(None, [_offered(phone)])]
        lines += [f"  also as {_other(way)}" for way in phone["other_ways"]]
        if phone["advice"]:
            lines.append(f"  -> {phone['advice']}")
    ready = next((phone for phone in phones if phone["usable"]), None)
    if ready is not None:
        alone = len(phones) == 1 and split_host_port(ready["serial"]) is None
        lines += ["", f"Next: nasflow doctor --device {'android' if alone else shlex.quote(ready['device'])}"]
    return lines


def _offered(phone: dict[str, Any]) -> str:
    """``cores 4 x 1.70 GHz, 1 x 2.91 GHz; GPU Mali-G715 (ARM); NPU Qualcomm Hexagon``: what is known."""
    named = (("cores", phone["cores"]), ("GPU", phone["gpu"]), ("NPU", phone["npu"]))
    return "; ".join(f"{name} {what}" for name, what in named if what)


def _other(way: dict[str, Any]) -> str:
    """``192.168.1.5:40001 (adb server, ready)``."""
    name = way["serial"] or f"transport_id:{way['transport_id']}"
    return f"{name} ({_WAYS[way['way']]}, {'ready' if way['state'] == 'device' else way['state']})"


def _cells(phone: dict[str, Any]) -> tuple[str, str, str, str]:
    android = f"Android {phone['android']}" if phone["android"] else ""
    what = ", ".join(filter(None, (phone["model"], phone["soc"], android)))
    state = "ready" if phone["usable"] else phone["state"]
    name = phone["serial"] or "(no serial)"
    if phone["device"] == f"android:transport_id:{phone['transport_id']}":  # its serial is not its alone
        name = f"{name} (transport_id:{phone['transport_id']})"
    return name, _WAYS[phone["way"]], state, what


def command(
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address", metavar="HOST:PORT", help="Also look for a phone at this address. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """List the phones that are connected, and this computer's CUDA GPUs.

    They are on USB, at the given addresses, or known to a running adb server. $ANDROID_SERIAL is used as an
    address if it is HOST:PORT. The exit code is 0 even if no phone is connected.
    """

    return lambda: list_devices(tuple(addresses or ()))
