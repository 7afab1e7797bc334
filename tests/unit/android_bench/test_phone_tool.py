"""Which program measures on a phone: the pushed one on a real phone, its own on a virtual one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from android_bench.phone.remote_files import RemoteFiles
from android_bench.phone.tool import find_tool, is_runner_name
from android_bench.runner.download import Runner
from android_bench.transport import Completed
from nasflow.base.errors import NoUsableDeviceError, UsageError

ARM64 = (
    b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (183).to_bytes(2, "little") + bytes(44)
)
ARM32 = b"\x7fELF\x01\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (40).to_bytes(2, "little") + bytes(44)
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "benchmark_model"
CLASSIC = Completed(
    (FIXTURES / "classic_badflag.out").read_bytes(), (FIXTURES / "classic_badflag.err").read_bytes(), 1
)


class Phone:
    """A transport to a phone that knows the few commands that matter."""

    serial = "phone"

    def __init__(self, properties: dict[str, str], *, answers: Sequence[Completed] = (CLASSIC,)) -> None:
        self.properties = properties
        self.answers = list(answers)
        self.files: dict[str, tuple[bytes, int]] = {}
        self.ran: list[str] = []

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        match list(argv):
            case ["getprop"]:
                return Completed(
                    "".join(f"[{key}]: [{value}]\n" for key, value in self.properties.items()).encode(),
                    b"",
                    0,
                )
            case ["sha256sum", path] if path in self.files:
                return Completed(hashlib.sha256(self.files[path][0]).hexdigest().encode(), b"", 0)
            case ["sha256sum", _]:
                return Completed(b"", b"no such file", 1)
            case ["mv", "-f", source, target]:
                self.files[target] = self.files.pop(source)
            case [path, "--num_runs=none"]:
                self.ran.append(path)
                return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Completed(b"", b"", 0)

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        self.files[remote] = (content, mode)

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        return self.files[remote][0]

    def state(self) -> str:
        return "device"

    def reconnect(self, *, timeout_s: float) -> None:
        raise AssertionError("nothing was lost")

    def close(self) -> None:
        raise AssertionError("nobody asked for it")


def runner_for(abis: Sequence[str]) -> Runner:
    assert abis[0] == "arm64-v8a"
    return Runner(ARM64, hashlib.sha256(ARM64).hexdigest(), "benchmark_model 1.2", "recorded")


def test_a_real_phone_gets_the_program_for_its_abi_and_may_run_it() -> None:
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a", "ro.product.model": "P"})
    tool = find_tool(phone, RemoteFiles(phone), runner_for)
    assert not tool.virtual
    assert (tool.tool.kind, tool.runtime, tool.news) == (
        "classic",
        "classic, benchmark_model 1.2",
        "recorded",
    )
    assert tool.sha256 == hashlib.sha256(ARM64).hexdigest()
    assert phone.files == {tool.path: (ARM64, 0o755)}
    assert phone.ran == [tool.path]


def test_a_program_of_another_abi_is_not_pushed() -> None:
    phone = Phone({"ro.product.cpu.abi": "armeabi-v7a"})
    with pytest.raises(NoUsableDeviceError, match="arm64-v8a, but the phone's ABI is armeabi-v7a"):
        find_tool(phone, RemoteFiles(phone), runner_for(["arm64-v8a"]))
    assert phone.files == {}


def test_a_virtual_phone_keeps_its_own_and_nothing_is_obtained() -> None:
    phone = Phone({"ro.nasflow.virtual": "true"})
    phone.files["/system/bin/benchmark_model"] = (b"its own", 0o755)

    def never(abis: Sequence[str]) -> Runner:
        raise AssertionError(abis)

    tool = find_tool(phone, RemoteFiles(phone), never)
    assert tool.virtual
    assert tool.path == "/system/bin/benchmark_model"
    assert tool.sha256 == hashlib.sha256(b"its own").hexdigest()
    assert tool.properties.model is None


def test_a_32_bit_program_is_run_by_a_phone_that_lists_its_abi() -> None:
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a", "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a"})
    program = Runner(ARM32, hashlib.sha256(ARM32).hexdigest(), "own")
    tool = find_tool(phone, RemoteFiles(phone), program)
    assert (tool.sha256, tool.runtime) == (program.sha256, "classic, own")


NOT_EXECUTABLE = b"/system/bin/sh: /data/local/tmp/x: not executable: 64-bit \x1b[1mELF file"


@pytest.mark.parametrize(
    ("code", "words", "told", "advice"),
    [
        (1, NOT_EXECUTABLE, "built for another processor", "abilist"),
        (126, NOT_EXECUTABLE, "built for another processor", "abilist"),
        (
            1,
            b'CANNOT LINK EXECUTABLE "x": library "libc++_shared.so" not found',
            "lacks a library",
            "statically",
        ),
        (
            126,
            b"/system/bin/sh: x: can't execute: Permission denied",
            "is not allowed to run",
            "/data/local/tmp",
        ),
        (132, b"", "SIGILL: this processor lacks an instruction", "older processors"),
        (134, b"terminating due to uncaught exception", "SIGABRT: the program aborted", "last line"),
        (139, b"", "SIGSEGV", "fault is in the runner"),
    ],
)
def test_a_program_that_the_phone_does_not_run_says_why_and_what_helps(
    code: int, words: bytes, told: str, advice: str
) -> None:
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a"}, answers=[Completed(b"", words, code)])
    with pytest.raises(
        NoUsableDeviceError, match=rf"^benchmark_model 1.2 .*{told}.*exit code {code}"
    ) as caught:
        find_tool(phone, RemoteFiles(phone), runner_for)
    assert advice in caught.value.hint
    assert ("printed nothing" if not words else "The last line of its output: ") in caught.value.message


def test_a_program_that_was_killed_is_asked_again_twice() -> None:
    killed = Completed(b"", b"", 137)
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a"}, answers=[killed, killed, CLASSIC])
    assert find_tool(phone, RemoteFiles(phone), runner_for).tool.kind == "classic"
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a"}, answers=[killed])
    with pytest.raises(NoUsableDeviceError, match=r"SIGKILL.*low memory"):
        find_tool(phone, RemoteFiles(phone), runner_for)
    assert len(phone.ran) == 3


def test_a_program_that_another_run_deleted_meanwhile_is_put_there_again() -> None:
    well = Phone({"ro.product.cpu.abi": "arm64-v8a"}, answers=[CLASSIC])
    path = find_tool(well, RemoteFiles(well), runner_for).path
    gone = Completed(b"", f"/system/bin/sh: {path}: inaccessible or not found".encode(), 127)

    class Deleting(Phone):
        def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
            if argv[-1] == "--num_runs=none" and not self.ran:
                self.files.clear()
            return super().run(argv, timeout_s=timeout_s)

    phone = Deleting({"ro.product.cpu.abi": "arm64-v8a"}, answers=[gone, CLASSIC])
    tool = find_tool(phone, RemoteFiles(phone), runner_for)
    assert phone.files == {tool.path: (ARM64, 0o755)}
    phone = Deleting({"ro.product.cpu.abi": "arm64-v8a"}, answers=[gone])
    with pytest.raises(NoUsableDeviceError, match="is no longer on the phone"):
        find_tool(phone, RemoteFiles(phone), runner_for)


def test_another_program_is_no_runner() -> None:
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a"}, answers=[Completed(b"hello\n", b"", 0)])
    with pytest.raises(UsageError, match=r"benchmark_model 1.2 is not a benchmark_model.*'hello'"):
        find_tool(phone, RemoteFiles(phone), runner_for)


def test_only_files_that_are_named_by_a_hash_and_nothing_else_are_runners() -> None:
    assert is_runner_name("0a" * 32)
    for name in ("0a" * 32 + ".tflite", "0A" * 32, "0a" * 31, "job-" + "0a" * 16, "lock"):
        assert not is_runner_name(name)
