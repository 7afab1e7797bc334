"""The phone's benchmark_model: real runs of real models, told as the real tools tell them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.device import BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from android_bench.runner.failure import cannot_run
from android_bench.runner.identity import QUESTION, identify
from android_bench.runner.output import parse_output
from android_bench.runner.tool import command, finished_run
from android_bench.virtual_phone import benchmark_text
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import (
    BadMeasurementError,
    DeviceError,
    KilledByPhoneError,
    NoUsableDeviceError,
    UsageError,
)
from stages.conversion.flatbuffer import block_model
from stages.space.block_spec import BlockSpec

pytestmark = pytest.mark.needs("bubblewrap")

OTHER = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=8)
BLOCK = BlockSpec(kind="mbconv", kernel=5, expansion=6, in_channels=32, out_channels=32, resolution=32)
TOOLS = ["classic", "litert"]
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "benchmark_model"
MODEL, RESULT = "/data/local/tmp/model.tflite", "/data/local/tmp/result.pb"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def model() -> bytes:
    return block_model(BLOCK)


@pytest.fixture(scope="module")
def phone(model: bytes) -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        phone.storage(MODEL).write_bytes(model)
        yield phone


@pytest.fixture
def transport(phone: VirtualPhone, tmp_path: Path) -> Iterator[DirectTransport]:
    with closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport:
        yield transport
    phone.faults.clear()


def measure(
    transport: DirectTransport, tool: str, model: bytes, options: RuntimeOptions | None = None
) -> LatencyMeasurement:
    """One measurement, by the very code that measures phones."""
    request = BenchmarkRequest(
        name="block", model=model, options=options or RuntimeOptions(), warmup_ms=5, min_ms=20, min_runs=5
    )
    binary = f"benchmark_model_{tool}"
    kind = identify(transport.run([binary, QUESTION], timeout_s=TIMEOUT_S))
    assert kind.kind == tool
    transport.run(["rm", "-f", RESULT], timeout_s=TIMEOUT_S)
    words = command(kind, request, binary=binary, model=MODEL, result=RESULT)
    done = transport.run(words, timeout_s=TIMEOUT_S)
    found = transport.run(["cat", RESULT], timeout_s=TIMEOUT_S)
    return finished_run(kind, done, found.stdout if found.exit_code == 0 else None, request)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_model_is_really_run_and_text_and_file_agree(
    transport: DirectTransport, model: bytes, tool: str
) -> None:
    measured = measure(transport, tool, model)
    assert 0.05 < measured.median_ms < 100
    assert measured.min_ms <= measured.p5_ms <= measured.median_ms <= measured.p95_ms


def test_throttling_lengthens_what_is_measured(
    phone: VirtualPhone, transport: DirectTransport, model: bytes
) -> None:
    well = measure(transport, "classic", model).min_ms
    phone.faults.set(FaultPlan(slowdown=20))
    assert measure(transport, "classic", model).min_ms > 8 * well


def test_a_gpu_that_the_build_does_not_know_is_not_asked_for(
    transport: DirectTransport, model: bytes
) -> None:
    with pytest.raises(UsageError, match=r"classic benchmark_model does not support --use_gpu"):
        measure(transport, "classic", model, RuntimeOptions(delegate="gpu"))


def test_a_gpu_that_is_not_there_ends_litert_s_tool(transport: DirectTransport, model: bytes) -> None:
    with pytest.raises(DeviceError, match="Failed to compile model") as caught:
        measure(transport, "litert", model, RuntimeOptions(delegate="gpu"))
    assert "use the CPU" in caught.value.hint


def test_contradicting_accelerators_abort_litert_s_tool(transport: DirectTransport) -> None:
    words = ["benchmark_model_litert", f"--graph={MODEL}", "--use_gpu=true", "--require_full_delegation=true"]
    done = transport.run(words, timeout_s=TIMEOUT_S)
    assert done.exit_code == 134
    assert b"Requesting full delegation and CPU acceleration are incompatible." in done.stderr


def test_what_xnnpack_computes_is_told_where_it_is_asked_for(transport: DirectTransport) -> None:
    words = [
        "benchmark_model_classic",
        f"--graph={MODEL}",
        "--use_xnnpack=true",
        "--num_runs=1",
        "--min_secs=0",
    ]
    done = transport.run(words, timeout_s=TIMEOUT_S)
    (delegation,) = parse_output(done.stdout, done.stderr).delegations
    assert (delegation.delegate, delegation.extent) == ("XNNPACK", "all")


def test_a_full_phone_leaves_a_torn_result_that_is_no_number(
    phone: VirtualPhone, transport: DirectTransport, model: bytes
) -> None:
    phone.faults.set(FaultPlan(free_bytes=20))
    with pytest.raises((BadMeasurementError, DeviceError)):
        measure(transport, "classic", model)


def test_a_phone_of_another_abi_does_not_start_it_in_the_shells_own_words(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    phone.faults.set(FaultPlan(abi="armeabi-v7a"))
    done = transport.run(["/system/bin/benchmark_model", QUESTION], timeout_s=TIMEOUT_S)
    assert (done.exit_code, done.stdout) == (1, b"")
    path = b"/system/bin/benchmark_model"
    assert done.stderr == b"/system/bin/sh: " + path + b": not executable: 64-bit ELF file\n"
    assert transport.run(["getprop", "ro.product.cpu.abi"], timeout_s=TIMEOUT_S).stdout == b"armeabi-v7a\n"


@pytest.mark.parametrize(
    ("plan", "code", "words"),
    [
        (FaultPlan(tool_forbidden=True), 126, b"can't execute: Permission denied"),
        (
            FaultPlan(tool_link_error='library "libfoo.so" not found: needed by main executable'),
            1,
            b'CANNOT LINK EXECUTABLE "/system/bin/benchmark_model": library "libfoo.so" not found',
        ),
        (FaultPlan(tool_signal=4, tool_signal_at="start"), 132, b""),
        (FaultPlan(tool_signal=11, tool_signal_at="start"), 139, b""),
    ],
)
def test_a_tool_that_the_phone_does_not_run_is_refused_with_its_reason(
    phone: VirtualPhone, transport: DirectTransport, plan: FaultPlan, code: int, words: bytes
) -> None:
    phone.faults.set(plan)
    done = transport.run(["/system/bin/benchmark_model", QUESTION], timeout_s=TIMEOUT_S)
    assert (done.exit_code, done.stdout) == (code, b"")
    assert words in done.stderr
    assert isinstance(cannot_run(done, "benchmark_model"), NoUsableDeviceError)


def test_a_signal_strikes_a_run_as_often_as_it_shall_and_never_the_question(
    phone: VirtualPhone, transport: DirectTransport, model: bytes
) -> None:
    for _ in range(2):  # a plan that is set again counts again
        phone.faults.set(FaultPlan(tool_signal=9, tool_signal_times=2))
        for _ in range(2):
            with pytest.raises(KilledByPhoneError, match="SIGKILL"):
                measure(transport, "classic", model)
        assert measure(transport, "classic", model).runs >= 5


def test_a_run_that_a_signal_ended_says_what_was_printed_before(
    phone: VirtualPhone, transport: DirectTransport, model: bytes
) -> None:
    phone.faults.set(FaultPlan(tool_signal=11))
    with pytest.raises(
        DeviceError, match=r"SIGSEGV.*exit code 139.*The last line of its output: 'INFO: \w+"
    ) as caught:
        measure(transport, "classic", model)
    assert "STARTING!" in caught.value.raw


@pytest.mark.parametrize(
    ("tool", "flags", "words"),
    [
        ("classic", [], b"--graph"),
        (
            "classic",
            ["--graph=/data/local/tmp/nothing"],
            b"ERROR: Could not open '/data/local/tmp/nothing'.\n",
        ),
        ("classic", ["--graph=/data/local/tmp/damaged"], b"Failed to load model /data/local/tmp/damaged\n"),
        ("litert", ["--graph=/data/local/tmp/nothing"], b"Failed to load model."),
        ("classic", [f"--graph={MODEL}", "--num_runs=many"], b"usage: "),
        (
            "classic",
            [f"--graph={MODEL}", "--require_full_delegation=true"],
            b"Disallowed CPU fallback detected",
        ),
    ],
)
def test_what_cannot_be_run_fails_with_exit_code_1(
    phone: VirtualPhone, transport: DirectTransport, tool: str, flags: list[str], words: bytes
) -> None:
    phone.storage("/data/local/tmp/damaged").write_bytes(b"TFL3" * 10)
    done = transport.run([f"benchmark_model_{tool}", *flags], timeout_s=TIMEOUT_S)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.endswith(b"ERROR: Benchmarking failed.\n")


def test_signatures_are_listed_as_recorded(phone: VirtualPhone, transport: DirectTransport) -> None:
    words = ["benchmark_model", f"--graph={MODEL}", "--list_signatures=true"]
    done = transport.run(words, timeout_s=TIMEOUT_S)
    recorded = (
        (FIXTURES / "listsig.out").read_bytes().replace(b"../models/dummy_cv_model.tflite", MODEL.encode())
    )
    count = recorded.index(b"INFO: The Model contains")
    assert done.stdout[:count] == recorded[:count]
    assert re.match(rb"INFO: The Model contains [01] signature key\(s\)\.\n", done.stdout[count:])
    assert (done.exit_code, done.stderr.endswith((FIXTURES / "listsig.err").read_bytes())) == (1, True)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_bad_value_gives_the_recorded_answer_byte_for_byte(transport: DirectTransport, tool: str) -> None:
    done = transport.run([f"/system/bin/benchmark_model_{tool}", "--num_runs=abc"], timeout_s=TIMEOUT_S)
    out, err = ((FIXTURES / f"{tool}_badflag.{end}").read_bytes() for end in ("out", "err"))
    recorded_name = re.search(rb"usage: (\S+)", err)
    assert recorded_name is not None
    assert done.exit_code == 1
    assert done.stdout == out
    assert done.stderr == err.replace(recorded_name[1], f"/system/bin/benchmark_model_{tool}".encode())


def test_help_is_answered_by_abseil_in_litert_s_tool_and_by_the_list_in_the_classic_one(
    transport: DirectTransport,
) -> None:
    litert = transport.run(["/system/bin/benchmark_model_litert", "--help"], timeout_s=TIMEOUT_S)
    recorded = (FIXTURES / "litert_help_2_2.out").read_bytes()
    assert (litert.exit_code, litert.stderr) == (1, b"")
    assert litert.stdout == recorded.replace(b"benchmark_litert_x86", b"benchmark_model_litert")
    classic, bad = (
        transport.run(["/system/bin/benchmark_model_classic", flag], timeout_s=TIMEOUT_S)
        for flag in ("--help", "--num_runs=abc")
    )
    assert (classic.exit_code, classic.stdout) == (1, b"INFO: STARTING!\n")
    assert classic.stderr == bad.stderr.partition(b"\n")[2]


def test_what_the_phone_has_recorded_is_what_the_tests_have() -> None:
    for name in ("classic_badflag.err", "litert_badflag.err", "litert_help_2_2.out"):
        copy = Path(benchmark_text.__file__).with_name("recorded") / name
        assert copy.read_bytes() == (FIXTURES / name).read_bytes()


def test_unknown_flags_are_told_and_do_not_fail(transport: DirectTransport) -> None:
    words = [f"--graph={MODEL}", "--num_runs=2", "--min_secs=0", "--warmup_min_secs=0", "--nosuch=1"]
    done = transport.run(["benchmark_model", *words], timeout_s=TIMEOUT_S)
    assert done.exit_code == 0
    output = parse_output(done.stdout, done.stderr)
    assert output.unknown_flags == "--nosuch=1"
    assert output.inference.count == 2
    assert output.warmup is not None and output.warmup.count == 1


@pytest.mark.parametrize("tool", TOOLS)
def test_times_that_the_description_gives_are_the_same_each_time_and_another_for_another_model(
    tmp_path: Path, model: bytes, tool: str
) -> None:
    with (
        running_phone(description=PhoneDescription(run_us=1000)) as phone,
        closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport,
    ):

        def times(content: bytes) -> list[float]:
            phone.storage(MODEL).write_bytes(content)
            found = measure(transport, tool, content)
            return [found.median_ms, found.p5_ms, found.p95_ms, found.min_ms, found.runs]

        once = times(model)
        assert times(model) == once
        assert times(block_model(OTHER)) != once
        assert 1.0 <= once[3] <= once[0] <= 2.02
        assert 20 / 2.02 <= once[4] <= 21
        phone.faults.set(FaultPlan(slowdown=3))
        assert times(model)[0] == pytest.approx(3 * once[0], rel=0.001)
