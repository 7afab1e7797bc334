"""This computer as a device, with the real LiteRT in its real process."""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from android_bench.local import worker_device
from android_bench.local.device import LocalDevice
from android_bench.local.frames import read_frame, write_frame
from android_bench.local.process import WorkerProcess
from nasflow.base.errors import DeviceError, UsageError
from stages.conversion.flatbuffer import block_model, empty_model
from stages.space.block_spec import BlockSpec

SMALL = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=8)
LARGE = BlockSpec(kind="mbconv", kernel=5, expansion=6, in_channels=32, out_channels=32, resolution=32)
STEM = BlockSpec(kind="stem", kernel=3, stride=2, in_channels=3, out_channels=8, resolution=8)


@pytest.fixture
def device() -> Iterator[LocalDevice]:
    with LocalDevice() as device:
        yield device


@pytest.mark.parametrize("options", [{"cpu": "big"}, {"cpu": "0x3"}, {"delegate": "gpu"}])
def test_what_only_phones_can_do_is_refused(device: LocalDevice, options: dict[str, str]) -> None:
    wanted = request(SMALL).model_copy(update={"options": RuntimeOptions.model_validate(options)})
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        device.benchmark(wanted)
    assert device.worker_pid is None


def test_a_measurement_at_another_speed_has_all_its_times_divided(device: LocalDevice) -> None:
    measured = device.benchmark(request(SMALL))
    faster = measured.divided(1.25)
    for name in ("median_ms", "p5_ms", "p95_ms", "min_ms"):
        assert getattr(faster, name) == pytest.approx(getattr(measured, name) / 1.25)
    assert faster.round_medians_ms == (faster.median_ms,)
    assert (faster.runs, faster.spread) == (measured.runs, measured.spread)


def request(block: BlockSpec, *, min_ms: float = 2.0, **fields: float) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate(
        {"name": block.key, "model": block_model(block), "warmup_ms": 0.5, "min_ms": min_ms, **fields}
    )


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody has collected has)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if gone(pid):
            return
        pause.wait(0.01)
    pytest.fail(f"process {pid} still runs")


def test_a_larger_block_takes_longer(device: LocalDevice) -> None:
    small, large = device.benchmark(request(SMALL)), device.benchmark(request(LARGE))
    assert large.median_ms > 5 * small.median_ms
    for result in (small, large):
        assert 0 < result.min_ms <= result.p5_ms <= result.median_ms <= result.p95_ms
        assert result.rounds == 1
        assert result.round_medians_ms == (result.median_ms,)
        assert result.conditions is not None


def test_runs_follow_the_request(device: LocalDevice) -> None:
    assert device.benchmark(request(SMALL, min_ms=0.001, min_runs=7, max_runs=7)).runs == 7
    counted = device.benchmark(request(SMALL, min_ms=5.0))
    assert counted.runs * counted.min_ms <= 5.0 * 1.5


def test_results_come_in_the_order_asked_and_one_by_one(device: LocalDevice) -> None:
    wanted: list[BenchmarkRequest] = [request(SMALL), request(STEM), request(SMALL)]
    results = device.benchmark_many(wanted)
    assert device.worker_pid is None
    assert next(results)[0] == 0
    assert [index for index, _ in results] == [1, 2]


def test_a_damaged_model_is_named_and_the_next_one_is_measured(device: LocalDevice) -> None:
    broken = BenchmarkRequest(name="broken_block", model=block_model(SMALL)[:500])
    with pytest.raises(DeviceError, match=r"broken_block .*not a valid Flatbuffer") as caught:
        device.benchmark(broken)
    assert caught.value.exit_code == 5
    first = device.worker_pid
    assert device.benchmark(request(SMALL)).median_ms > 0
    assert device.worker_pid == first


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_while_measuring_is_an_error_and_starts_again(
    device: LocalDevice, number: signal.Signals
) -> None:
    device.benchmark(request(SMALL))
    pid = device.worker_pid
    assert pid is not None
    long = request(LARGE, min_ms=60_000, max_runs=10_000_000)
    killer = threading.Timer(0.3, os.kill, (pid, number))
    killer.start()
    with pytest.raises(DeviceError, match=f"killed by {number.name}.*{LARGE.key}"):
        device.benchmark(long)
    killer.join()
    assert gone(pid)
    assert device.benchmark(request(SMALL)).median_ms > 0
    assert device.worker_pid != pid


def test_a_worker_that_died_between_measurements_starts_again(device: LocalDevice) -> None:
    device.benchmark(request(SMALL))
    pid = device.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    assert device.benchmark(request(SMALL)).median_ms > 0


def test_a_worker_that_hangs_is_stopped() -> None:
    with LocalDevice() as device:
        device.benchmark(request(SMALL))
        pid = device.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        device.timeout_seconds = 0.3  # from now on: a busy computer may start a worker slowly
        with pytest.raises(DeviceError, match=f"did not answer within .*{SMALL.key}"):
            device.benchmark(request(SMALL))
        assert gone(pid)


def test_the_workers_own_words_are_kept(tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text("import sys\nprint('INFO: delegate created', file=sys.stderr)\n1 / 0\n")
    worker = WorkerProcess([str(script)], LocalDevice()._failure)
    with pytest.raises(DeviceError, match="ended with status 1 while it ran some_block") as caught:
        worker.ask({"op": "run"}, b"x" * 1_000_000, subject="some_block", timeout_seconds=30)
    assert "INFO: delegate created" in caught.value.raw
    assert "ZeroDivisionError" in caught.value.raw
    assert not worker.alive


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ([2, 3], 20),
        ([3, 3], 36),
        ([2, -3], 24),
        ([2, 2**40], 24),
        ("2x3", 24),
        ([2, 3.0], 24),
        (None, 0),
        ([], 4),
    ],
)
def test_outputs_that_do_not_fit_together_are_refused(shape: object, size: int) -> None:
    with pytest.raises(DeviceError, match="the LiteRT process answered"):
        worker_device._values(bytes(size), shape, 2)
    assert worker_device._values(bytes(24), [2, 3], 2).shape == (2, 3)


def test_the_info_is_the_same_every_time_and_needs_no_worker(device: LocalDevice) -> None:
    info = device.info()
    assert info.identity() == LocalDevice().info().identity()
    assert info.kind == "local"
    assert not info.virtual
    assert info.runtime.startswith("ai-edge-litert ")
    assert info.model
    assert device.worker_pid is None


def test_outputs_are_those_of_each_image_alone(device: LocalDevice) -> None:
    generator = np.random.default_rng(0)
    x_NHWC = generator.uniform(-1, 1, (21, 8, 8, 3)).astype(np.float32)
    together = device.run_model(block_model(STEM), x_NHWC)
    assert together.shape == (21, 4, 4, 8)
    assert together.dtype == np.float32
    alone = [device.run_model(block_model(STEM), x_NHWC[i : i + 1]) for i in (0, 20)]
    assert np.array_equal(together[[0, 20]], np.concatenate(alone))
    assert len(np.unique(together[:, 1, 1, 1])) > 5


def test_many_images_cross_in_several_pieces(device: LocalDevice) -> None:
    x = np.linspace(-1, 8, 2_500_000, dtype=np.float32)[::250_000]
    wide = BlockSpec(kind="head", in_channels=1, out_channels=1, resolution=1024)
    x_NHWC = np.broadcast_to(x[:, None, None, None], (10, 1024, 1024, 1))
    outputs = device.run_model(block_model(wide, seed=1), x_NHWC)
    assert outputs.shape == (10, 1024, 1024, 1)
    for place in range(10):
        one = device.run_model(block_model(wide, seed=1), x_NHWC[place : place + 1])
        assert np.array_equal(one[0], outputs[place])


def test_no_images_give_no_outputs(device: LocalDevice) -> None:
    assert device.run_model(block_model(STEM), np.zeros((0, 8, 8, 3), np.float32)).shape == (0, 4, 4, 8)


def test_images_of_the_wrong_size_are_refused(device: LocalDevice) -> None:
    with pytest.raises(DeviceError, match=r"takes float32 \(1, 8, 8, 3\).*input is float32 \(1, 9, 9, 3\)"):
        device.run_model(block_model(STEM), np.zeros((2, 9, 9, 3), np.float32))


def test_several_threads_compute_the_same(device: LocalDevice) -> None:
    x_NHWC = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 32)).astype(np.float32)
    one = device.run_model(block_model(LARGE), x_NHWC)
    two = device.run_model(block_model(LARGE), x_NHWC, RuntimeOptions(threads=2))
    assert np.abs(one - two).max() < 1e-4


def test_timing_after_running_images_uses_the_fixed_input_again(device: LocalDevice) -> None:
    model = block_model(SMALL)
    nan = np.full((1, 8, 8, 8), math.nan, np.float32)
    device.run_model(model, nan)
    assert device.benchmark(BenchmarkRequest(name="after", model=model, min_ms=1)).median_ms > 0


def test_a_folder_with_modules_of_the_same_names_does_not_disturb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "json", "android_bench", "ai_edge_litert"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a foreign module was imported')\n")
    monkeypatch.chdir(tmp_path)
    with LocalDevice() as device:
        assert device.benchmark(request(SMALL)).median_ms > 0


def test_the_worker_imports_nothing_heavy() -> None:
    stream = io.BytesIO()
    about = {"model": "a", "options": {"threads": 1}}
    write_frame(stream, {"op": "load", **about}, empty_model())
    timing = {"warmup_ms": 0, "min_ms": 0.1, "min_runs": 1, "max_runs": 10}
    write_frame(stream, {"op": "benchmark", **about, **timing})
    ended = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", *LocalDevice.program],
        input=stream.getvalue(),
        capture_output=True,
        check=True,
    )
    answers = io.BytesIO(ended.stdout)
    assert read_frame(answers) == ({}, b"")
    measured = read_frame(answers)
    assert measured is not None
    assert measured[0]["runs"] >= 1
    imported = {line.split("|")[-1].strip() for line in ended.stderr.decode().splitlines() if "|" in line}
    assert "ai_edge_litert.interpreter" in imported
    assert imported.isdisjoint({"torch", "tensorflow", "onnx", "pydantic", "scipy", "nasflow", "stages"})
    ours = {name for name in imported if name.startswith("android_bench.")}
    parts = ("frames", "inputs", "serving", "timing")
    local = {f"android_bench.local.{part}" for part in parts}
    assert ours == {"android_bench.local", "android_bench.warm_up", *local}


PARENT = """
import sys
from android_bench.device import BenchmarkRequest
from android_bench.local.device import LocalDevice
from android_bench.local.frames import read_frame, write_frame
from stages.conversion.flatbuffer import empty_model
device = LocalDevice()
device.benchmark(BenchmarkRequest(name="first", model=empty_model(), min_ms=1))
print(device.worker_pid, flush=True)
long = {"min_ms": float(sys.argv[1]), "max_runs": 10**9}
device.benchmark(BenchmarkRequest(name="long", model=empty_model(), **long))
"""


@pytest.mark.parametrize(("number", "min_ms"), [(signal.SIGINT, 60_000), (signal.SIGKILL, 200)])
def test_no_worker_outlives_a_parent_that_a_signal_ends(number: signal.Signals, min_ms: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(min_ms)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        os.kill(pid, signal.SIGINT)  # the worker itself does not mind
        assert not gone(pid)
        parent.send_signal(number)
        parent.wait(timeout=10)
    wait_until_gone(pid)


def test_it_is_a_device(device: LocalDevice) -> None:
    as_device: Device = device
    as_device.close()
    as_device.close()
