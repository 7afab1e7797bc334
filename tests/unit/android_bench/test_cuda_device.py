"""A CUDA GPU as a device: all but the CUDA graph and the events runs here, on PyTorch's CPU.

``pytest -m gpu tests/unit/android_bench/test_cuda_device.py`` runs the same on ``cuda:0``.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import scripted_worker
from support.fake_nvml import UUID, FakeNvml

from android_bench.device import BenchmarkRequest, Conditions, Device, RuntimeOptions
from android_bench.local import cuda_device
from android_bench.local.cuda_device import WARMUP_MS, CudaDevice
from android_bench.local.device import LocalDevice
from android_bench.local.torch_worker import PyTorch
from nasflow.assemble import measurable_precisions, open_device
from nasflow.base.errors import BadMeasurementError, DeviceError, NoUsableDeviceError, UsageError
from nasflow.config import PipelineConfig
from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.conversion.onnx_file import onnx_of
from stages.conversion.quantize import in_precision
from stages.measurement.disturbed import Moment, dropped
from stages.space.block_spec import BlockSpec
from stages.space.mobilenet_v2 import mobilenet_v2

SMALL = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=8)
LARGE = BlockSpec(kind="mbconv", kernel=5, expansion=6, in_channels=32, out_channels=32, resolution=28)
GPUS = [
    {
        "name": "NVIDIA H200",
        "uuid": UUID,
        "capability": "9.0",
        "processors": 132,
        "memory_bytes": 150_000_000_000,
    },
    {
        "name": "NVIDIA L4\x1b[31m",
        "uuid": "GPU-2",
        "capability": "8.9",
        "processors": 58,
        "memory_bytes": 24 << 30,
    },
]


def translated(model: bytes, name: str) -> bytes:
    return onnx_of(model, name, half=True)


def device_on(target: str) -> CudaDevice:
    return CudaDevice(translated, target=target, warmup_ms=1.0)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[CudaDevice]:
    with device_on(request.param) as device:
        yield device


def request(model: bytes, **fields: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate(
        {"name": "it", "model": model, "warmup_ms": 0.5, "min_ms": 2.0, **fields}
    )


def test_a_larger_block_takes_longer(device: CudaDevice) -> None:
    empty, small, large = (
        device.benchmark(request(model, options=RuntimeOptions(batch=64), min_runs=3)).min_ms
        for model in (empty_model(), block_model(SMALL), block_model(LARGE))
    )
    assert 0 < empty < small < large


def test_a_latency_is_that_of_the_whole_batch(device: CudaDevice) -> None:
    alone, together = (
        device.benchmark(request(block_model(LARGE), options=RuntimeOptions(batch=batch), min_runs=3)).min_ms
        for batch in (1, 64)
    )
    assert together > 1.2 * alone


@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-5), ("float16", 1e-2)])
def test_it_answers_as_litert_does_maps_of_features_too(
    device: CudaDevice, precision: str, near: float
) -> None:
    near = near if device.info().kind == "local" else 2e-2  # a GPU's convolutions round to TF32
    net = mobilenet_v2(resolution=32, classes=10, width=0.35)
    inputs = np.random.default_rng(0).uniform(-1, 1, (70, 32, 32, 3)).astype(np.float32)
    features = inputs[:3, :8, :8].repeat(3, axis=3)[..., :8]
    with LocalDevice() as here:
        for float32, images in ((network_model(net), inputs), (block_model(SMALL), features)):
            model = in_precision(float32, precision)  # type: ignore[arg-type]
            expected, found = here.run_model(model, images), device.run_model(model, images)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=near)


def test_files_with_float16_weights_are_timed_beside_others(device: CudaDevice) -> None:
    model = block_model(SMALL)
    for options in (RuntimeOptions(precision="float16"), RuntimeOptions(precision="float16", batch=8)):
        for file in (model, in_precision(model, "float16")):
            assert device.benchmark(request(file, options=options)).runs >= 10


def test_the_step_of_the_clock_is_told(device: CudaDevice) -> None:
    on_gpu = device.info().kind == "cuda"
    assert device.benchmark(request(block_model(SMALL))).resolution_ms == (0.0005 if on_gpu else 0.0)


def test_measuring_goes_on_in_another_process_after_renewal_and_after_its_death(device: CudaDevice) -> None:
    device.benchmark(request(block_model(SMALL)))
    first = device.worker_pid
    device.renew()
    device.benchmark(request(block_model(SMALL)))
    pid = device.worker_pid
    assert pid is not None
    assert pid != first
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(DeviceError, match="the PyTorch process was killed by SIGKILL"):
        device.benchmark(request(block_model(SMALL), min_ms=60_000, max_runs=10_000_000))
    killer.join()
    assert device.benchmark(request(block_model(SMALL))).median_ms > 0


def test_a_model_with_other_inputs_is_refused(device: CudaDevice) -> None:
    with pytest.raises(DeviceError, match=r"the model takes float32 \(1, 8, 8, 8\)"):
        device.run_model(block_model(SMALL), np.zeros((1, 9, 9, 8), np.float32))
    assert device.benchmark(request(block_model(SMALL))).median_ms > 0, "the process goes on"


def test_what_is_no_model_is_told(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_translate", lambda _model, _name: b"this is no model")
    with pytest.raises(DeviceError, match=r"PyTorch cannot run it \(\w+\): this is no ONNX model"):
        device.benchmark(request(block_model(SMALL), options=RuntimeOptions(batch=3)))


@pytest.mark.parametrize(
    "options", [{"threads": 2}, {"cpu": "big"}, {"delegate": "gpu"}, {"precision": "int8"}]
)
def test_what_it_cannot_do_is_refused_before_anything_is_started(options: dict[str, object]) -> None:
    key, value = next(iter(options.items()))
    with device_on("cpu") as device:
        with pytest.raises(UsageError, match=f"runtime.{key} is {value}"):
            device.benchmark(request(block_model(SMALL), options=RuntimeOptions.model_validate(options)))
        assert device.worker_pid is None
    with pytest.raises(UsageError, match=f"runtime.{key} is {value}"):
        open_device(PipelineConfig.model_validate({"device": "cuda", "runtime": options}), Path())


@pytest.mark.parametrize("name", ["local", "onnxruntime", "android"])
def test_other_devices_refuse_batches(name: str) -> None:
    config = PipelineConfig.model_validate({"device": name, "runtime": {"batch": 8}})
    with pytest.raises(UsageError, match=r"runtime\.batch is 8"):
        device: Device = open_device(config, Path())
        device.benchmark(request(block_model(SMALL), options=config.runtime))


def test_files_that_a_gpu_cannot_run_are_left_out() -> None:
    assert measurable_precisions("cuda:1") == ("float32", "float16")
    assert measurable_precisions("onnxruntime") == ("float32",)
    assert "int8" in measurable_precisions("local")


def test_without_a_gpu_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with device_on("cuda:0") as device, pytest.raises(NoUsableDeviceError) as caught:
        device.info()
    if "finds no GPU" not in caught.value.message:
        assert "is built without CUDA" in caught.value.message
    assert "this computer has no CUDA GPU that can be measured: torch 2" in caught.value.message
    assert "--device local" in caught.value.hint
    assert caught.value.exit_code == 4


QUANTILES = {"median_ms": 1.0, "p5_ms": 0.9, "p95_ms": 1.1, "min_ms": 0.8, "runs": 10}


def scripted(
    target: str,
    told: list[str] | None = None,
    *,
    gpus: object = GPUS,
    benchmark: Mapping[str, object] = QUANTILES,
    **named: Any,
) -> CudaDevice:
    """A GPU behind a worker that answers as PyTorch would on a computer that has one."""
    described = {"runtime": "torch 2.13.0+cu130, CUDA 13.0, cuDNN 91400", "gpus": gpus, "why_none": ""}
    replies = json.dumps({"gpus": described, "benchmark": benchmark})

    class Scripted(CudaDevice):
        program = (scripted_worker.__file__, replies)

    return Scripted(translated, target=target, tell=([] if told is None else told).append, **named)


def test_a_gpu_is_known_by_its_name_its_driver_and_its_runtime(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = tmp_path / "version"
    version.write_text("580.65.06\n")
    monkeypatch.setattr(cuda_device, "_DRIVER_VERSION", version)
    with scripted("cuda:1") as device:
        identity = device.info().identity()
    assert identity["device_kind"] == "cuda"
    assert identity["device_model"] == "NVIDIA L4", "without the escape"
    assert identity["soc"] == "compute capability 8.9, 58 multiprocessors"
    assert identity["os_build"].endswith(", NVIDIA driver 580.65.06")
    assert identity["runtime"] == "torch 2.13.0+cu130, CUDA 13.0, cuDNN 91400"
    assert "GPU-2" not in str(identity), "a serial number of a kind"


def test_a_gpu_that_is_not_there_is_told_beside_those_that_are() -> None:
    with scripted("cuda:2") as device, pytest.raises(NoUsableDeviceError) as caught:
        device.info()
    assert "no GPU cuda:2" in caught.value.message
    assert "cuda:0 (NVIDIA H200), cuda:1 (NVIDIA L4)" in caught.value.message


@pytest.mark.parametrize("gpus", [None, [{"name": "x"}], [{**GPUS[0], "processors": "many"}]])
def test_nonsense_about_gpus_is_an_error_of_the_device(gpus: object) -> None:
    with scripted("cuda:0", gpus=gpus) as device, pytest.raises(DeviceError, match="described GPUs as"):
        device.info()


def test_a_time_of_nothing_is_refused() -> None:
    with (
        scripted("cuda:0", benchmark={**QUANTILES, "median_ms": 0.0}) as device,
        pytest.raises(BadMeasurementError, match="impossible latency"),
    ):
        device.benchmark(request(block_model(SMALL)))


def test_a_batch_that_the_memory_does_not_hold_is_named() -> None:
    words = "CUDA out of memory. Tried to allocate 20.00 GiB."  # as torch.OutOfMemoryError begins
    asked = request(block_model(SMALL), options=RuntimeOptions(batch=512))
    with (
        scripted("cuda:0", benchmark={"error": words, "out_of_memory": True}) as device,
        pytest.raises(DeviceError, match="Tried to allocate") as caught,
    ):
        device.benchmark(asked)
    assert "runtime.batch is 512; choose a smaller one" in caught.value.hint
    assert "damaged" not in caught.value.hint


@pytest.mark.parametrize(
    ("error", "used_up"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("shapes (3, 4) and (5,) not aligned"), False),
    ],
)
def test_what_pytorch_says_of_memory_is_told_from_other_refusals(error: Exception, used_up: bool) -> None:
    engine = PyTorch()
    assert isinstance(error, engine.refusals())
    assert engine.exhausted(error) == used_up
    engine.free()


def test_the_gpus_state_is_kept_with_each_timing_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, told = FakeNvml(mhz=1410, celsius=82, reasons=0x1 | 0x20).install(monkeypatch), list[str]()
    with scripted("cuda:0", told) as device:
        device.info()
        fake.pids = (device.worker_pid or 0, 4_000_000)
        for _ in range(2):
            conditions = device.benchmark(request(block_model(SMALL))).conditions
    assert conditions is not None
    assert (conditions.gpu_mhz, conditions.gpu_celsius) == (1410, 82)
    assert (conditions.throttled_by, conditions.other_programs) == (("heat",), 1)
    assert [text.split(":")[0] for text in told] == [
        "the GPU is slowed down (heat).",
        "1 other program computed on the GPU beside the timings, or may",
    ]
    assert fake.asked == [UUID], "by PyTorch's own name of the GPU, in the form that NVML has"
    assert fake.open == 0, "NVML was given back"


def test_what_nvml_cannot_tell_is_told_once_and_measuring_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml().install(monkeypatch)
    told: list[str] = []
    with scripted("cuda:1", told) as device:
        for _ in range(2):
            conditions = device.benchmark(request(block_model(SMALL))).conditions
            device.renew()
    assert conditions is not None
    assert conditions.gpu_mhz is conditions.throttled_by is conditions.other_programs is None
    assert told == [
        "the GPU's clock, heat, throttling and other programs are not known: NVML says: Not Found."
    ]


def test_it_is_found_again_after_it_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml().install(monkeypatch)
    device = scripted("cuda:0")
    for _ in range(2):
        conditions = device.benchmark(request(block_model(SMALL))).conditions
        assert conditions is not None
        assert conditions.gpu_mhz == 1980
        device.close()
    assert fake.open == 0


def test_a_gpu_computes_for_a_while_before_it_is_timed() -> None:
    with scripted("cuda:0", benchmark={**QUANTILES, "as_asked": "warmup_ms"}) as device:
        for warmup_ms, asked_ms in ((0.5, WARMUP_MS), (150.0, 150.0)):
            assert device.benchmark(request(empty_model(), warmup_ms=warmup_ms)).median_ms == asked_ms


def test_a_round_with_a_slowed_gpu_does_not_count() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    states = [Conditions(at=now, throttled_by=reasons) for reasons in (None, (), ("heat",))]
    assert dropped([Moment(1.0, [state]) for state in states]) == [None, None, "throttled"]
