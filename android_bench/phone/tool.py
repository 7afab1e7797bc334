"""The benchmark tool on a phone: the one that was pushed, or that a virtual phone brings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from android_bench.phone.remote_files import RemoteFiles
from android_bench.phone.text import PhoneProperties, parse_getprop, parse_properties
from android_bench.runner.tool import RunnerTool, check_abi, identify
from android_bench.transport import Transport, plain_text
from nasflow.errors import DeviceError, NoUsableDevice

if TYPE_CHECKING:
    from android_bench.runner.download import Runner

VIRTUAL_PROPERTY = "ro.nasflow.virtual"
VIRTUAL_TOOL = "/system/bin/benchmark_model"

_TIMEOUT_S = 60.0
_MAX_PROPERTIES = 1_000_000
_CANNOT_RUN = (126, 127)


@dataclass(frozen=True)
class PhoneTool:
    """A tool that is ready on a phone, and what the phone says about itself."""

    tool: RunnerTool
    path: str
    sha256: str
    runtime: str
    virtual: bool
    properties: PhoneProperties
    news: str = ""


def find_tool(
    transport: Transport, files: RemoteFiles, runner: Runner | Callable[[str], Runner]
) -> PhoneTool:
    """Have the tool on the phone and know which it is.

    A virtual phone's own is used, and nothing is pushed in its place. Raises DeviceLost, NoUsableDevice
    (wrong ABI), UsageError (no benchmark_model), and what obtaining the program raises.
    """
    done = transport.run(["getprop"], timeout_s=_TIMEOUT_S)
    text = plain_text(done.stdout, limit=_MAX_PROPERTIES)
    properties = parse_properties(text)
    virtual = parse_getprop(text).get(VIRTUAL_PROPERTY) == "true"
    news = ""
    if virtual:
        path, name, sha256 = VIRTUAL_TOOL, "virtual phone", _sha256(transport, VIRTUAL_TOOL)
    else:
        abi = properties.abi or ""
        program = runner(abi) if callable(runner) else runner
        check_abi(program.content, abi, name=program.name)
        path = files.put(program.content, mode=0o755)
        name, sha256, news = program.name, program.sha256, program.news
    helped = transport.run([path, "--help"], timeout_s=_TIMEOUT_S)
    if helped.exit_code in _CANNOT_RUN:
        words = plain_text(helped.stderr or helped.stdout, limit=300)
        raise NoUsableDevice(
            f"the phone cannot run {name} (exit code {helped.exit_code}): {words or 'no reason given'}.",
            hint=f"Set android.runner to a benchmark_model for {properties.abi or 'this phone'}.",
            raw=words,
        )
    tool = identify(helped)
    return PhoneTool(tool, path, sha256, f"{tool.kind}, {name}", virtual, properties, news)


def _sha256(transport: Transport, path: str) -> str:
    done = transport.run(["sha256sum", path], timeout_s=_TIMEOUT_S)
    match = re.match(rb"\\?([0-9a-f]{64})\b", done.stdout)
    if done.exit_code != 0 or match is None:
        raise DeviceError(
            f"the virtual phone has no {path} to measure with: "
            f"{plain_text(done.stderr or done.stdout, limit=200) or 'no reason given'}.",
            hint="Without bubblewrap it only answers questions: install bubblewrap and start it again.",
        )
    return match[1].decode()
