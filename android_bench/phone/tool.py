"""The benchmark tool on a phone: the one that was pushed, or that a virtual phone brings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from android_bench.phone.remote_files import RemoteFiles
from android_bench.phone.text import PhoneProperties, parse_getprop, parse_properties
from android_bench.runner.abi import check_abi
from android_bench.runner.failure import KILLED, cannot_run
from android_bench.runner.identity import QUESTION, RunnerTool, identify
from android_bench.transport import Transport
from nasflow.base.errors import DeviceError
from nasflow.base.text import plain_text

if TYPE_CHECKING:
    from android_bench.runner.download import Runner

VIRTUAL_PROPERTY = "ro.nasflow.virtual"
VIRTUAL_TOOL = "/system/bin/benchmark_model"

_TIMEOUT_S = 60.0
_RUNNER_NAME = re.compile(r"[0-9a-f]{64}")
_MAX_PROPERTIES = 1_000_000
_NOT_THERE = 127
_TRIES_WHEN_KILLED = 3


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
    transport: Transport, files: RemoteFiles, runner: Runner | Callable[[Sequence[str]], Runner]
) -> PhoneTool:
    """Have the tool on the phone and know which it is.

    A virtual phone's own is used, and nothing is pushed in its place. Raises DeviceLostError,
    NoUsableDeviceError (wrong ABI, or the phone does not run it), UsageError (no benchmark_model), and what
    obtaining the program raises.
    """
    done = transport.run(["getprop"], timeout_s=_TIMEOUT_S)
    text = plain_text(done.stdout, limit=_MAX_PROPERTIES)
    properties = parse_properties(text)
    if parse_getprop(text).get(VIRTUAL_PROPERTY) == "true":
        sha256 = _sha256(transport, VIRTUAL_TOOL)
        tool = _identified(transport, VIRTUAL_TOOL, "the simulated phone's benchmark_model")
        return PhoneTool(tool, VIRTUAL_TOOL, sha256, f"{tool.kind}, simulated phone", True, properties)
    program = runner(properties.abis) if callable(runner) else runner
    check_abi(program.content, properties.abis, name=program.name)
    path = files.put(program.content, mode=0o755)
    tool = _identified(transport, path, program.name, again=lambda: _put_again(files, program))
    runtime = f"{tool.kind}, {program.name}"
    return PhoneTool(tool, path, program.sha256, runtime, False, properties, program.news)


def is_runner_name(name: str) -> bool:
    """Whether a file in our folder on the phone is a benchmark_model that :func:`find_tool` has put there."""
    return _RUNNER_NAME.fullmatch(name) is not None


def _put_again(files: RemoteFiles, program: Runner) -> None:
    files.forget()
    files.put(program.content, mode=0o755)


def _identified(
    transport: Transport, path: str, name: str, again: Callable[[], None] | None = None
) -> RunnerTool:
    """Which tool a program on the phone is; one that another run deletes meanwhile is put there ``again``."""
    for _ in range(_TRIES_WHEN_KILLED):
        answered = transport.run([path, QUESTION], timeout_s=_TIMEOUT_S)
        if answered.exit_code == _NOT_THERE and again is not None:
            again()
            answered, again = transport.run([path, QUESTION], timeout_s=_TIMEOUT_S), None
        if answered.exit_code != KILLED:
            break
    if reason := cannot_run(answered, name):
        raise reason
    return identify(answered, name=name)


def _sha256(transport: Transport, path: str) -> str:
    done = transport.run(["sha256sum", path], timeout_s=_TIMEOUT_S)
    match = re.match(rb"\\?([0-9a-f]{64})\b", done.stdout)
    if done.exit_code != 0 or match is None:
        raise DeviceError(
            f"the simulated phone does not have its benchmark_model {path}: "
            f"{plain_text(done.stderr or done.stdout, limit=200) or 'no reason given'}.",
            hint="Start it again: nasflow virtual-phone.",
        )
    return match[1].decode()
