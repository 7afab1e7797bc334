"""Which program measures on a phone: the pushed one on a real phone, its own on a virtual one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from android_bench.phone.remote_files import RemoteFiles
from android_bench.phone.tool import find_tool
from android_bench.runner.download import Runner
from android_bench.transport import Completed
from nasflow.errors import NoUsableDevice, UsageError

ARM64 = (
    b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (183).to_bytes(2, "little") + bytes(44)
)
FLAGS = (
    "graph",
    "num_threads",
    "num_runs",
    "min_secs",
    "max_secs",
    "warmup_runs",
    "warmup_min_secs",
    "result_file_path",
    "enable_op_profiling",
    "use_gpu",
)
HELP = "".join(f"\t--{flag}=x\tstring\toptional\twords\n" for flag in FLAGS).encode()


class Phone:
    """A transport to a phone that knows the few commands that matter."""

    serial = "phone"

    def __init__(self, properties: dict[str, str], *, helped: Completed | None = None) -> None:
        self.properties = properties
        self.helped = helped or Completed(HELP, b"", 1)
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
            case [path, "--help"]:
                self.ran.append(path)
                return self.helped
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


def runner_for(abi: str) -> Runner:
    assert abi == "arm64-v8a"
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
    with pytest.raises(NoUsableDevice, match="arm64-v8a, but the phone is armeabi-v7a"):
        find_tool(phone, RemoteFiles(phone), runner_for("arm64-v8a"))
    assert phone.files == {}


def test_a_virtual_phone_keeps_its_own_and_nothing_is_obtained() -> None:
    phone = Phone({"ro.nasflow.virtual": "true"})
    phone.files["/system/bin/benchmark_model"] = (b"its own", 0o755)

    def never(abi: str) -> Runner:
        raise AssertionError(abi)

    tool = find_tool(phone, RemoteFiles(phone), never)
    assert tool.virtual
    assert tool.path == "/system/bin/benchmark_model"
    assert tool.sha256 == hashlib.sha256(b"its own").hexdigest()
    assert tool.properties.model is None


@pytest.mark.parametrize("code", [126, 127])
def test_a_program_that_the_phone_cannot_run_says_so(code: int) -> None:
    words = Completed(b"", b"not executable: 64-bit \x1b[1mELF file", code)
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a"}, helped=words)
    with pytest.raises(NoUsableDevice, match=f"exit code {code}.*not executable: 64-bit ELF"):
        find_tool(phone, RemoteFiles(phone), runner_for)


def test_another_program_is_no_runner() -> None:
    phone = Phone({"ro.product.cpu.abi": "arm64-v8a"}, helped=Completed(b"hello\n", b"", 0))
    with pytest.raises(UsageError, match="no benchmark_model"):
        find_tool(phone, RemoteFiles(phone), runner_for)
