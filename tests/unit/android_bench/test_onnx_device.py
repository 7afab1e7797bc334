"""This computer with ONNX Runtime, for real: the device's contract, and what goes wrong."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from android_bench.local import onnx_device
from android_bench.local.device import LocalDevice
from android_bench.local.onnx_device import OnnxRuntimeDevice
from nasflow.assemble import open_device
from nasflow.base.errors import DeviceError, UsageError
from nasflow.config import PipelineConfig
from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.conversion.onnx_file import onnx_of
from stages.space.block_spec import BlockSpec
from stages.space.mobilenet_v2 import mobilenet_v2

SMALL = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=8)
LARGE = BlockSpec(kind="mbconv", kernel=5, expansion=6, in_channels=32, out_channels=32, resolution=32)


@pytest.fixture
def device() -> Iterator[OnnxRuntimeDevice]:
    with OnnxRuntimeDevice(onnx_of) as device:
        yield device


def request(model: bytes, **fields: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate(
        {"name": "it", "model": model, "warmup_ms": 0.5, "min_ms": 2.0, **fields}
    )


def test_a_larger_block_takes_longer(device: OnnxRuntimeDevice) -> None:
    empty, small, large = (
        device.benchmark(request(model)).median_ms
        for model in (empty_model(), block_model(SMALL), block_model(LARGE))
    )
    assert 0 < empty < small < large / 3


def test_it_answers_as_litert_does_maps_of_features_too(device: OnnxRuntimeDevice) -> None:
    net = mobilenet_v2(resolution=32, classes=10, width=0.35)
    inputs = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    features = inputs[:, :8, :8].repeat(3, axis=3)[..., :8]
    with LocalDevice() as here:
        for model, images in ((network_model(net), inputs), (block_model(SMALL), features)):
            expected, found = here.run_model(model, images), device.run_model(model, images)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_is_this_computer_with_another_runtime(device: OnnxRuntimeDevice) -> None:
    with LocalDevice() as here:
        ours, theirs = device.info().identity(), here.info().identity()
    assert ours.pop("runtime").startswith("onnxruntime ")
    assert theirs.pop("runtime").startswith("ai-edge-litert ")
    assert ours == theirs


def test_measuring_goes_on_in_another_process_after_renewal_and_after_its_death(
    device: OnnxRuntimeDevice,
) -> None:
    pids = []
    for _ in range(2):
        device.benchmark(request(block_model(SMALL)))
        pids.append(device.worker_pid)
        device.renew()
    assert len(set(pids)) == 2
    device.benchmark(request(block_model(SMALL)))
    pid = device.worker_pid
    assert pid is not None
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(DeviceError, match="the ONNX Runtime process was killed by SIGKILL"):
        device.benchmark(request(block_model(SMALL), min_ms=60_000, max_runs=10_000_000))
    killer.join()
    assert device.benchmark(request(block_model(SMALL))).median_ms > 0


def test_threads_are_told_apart(device: OnnxRuntimeDevice) -> None:
    for threads in (1, 2):
        options = RuntimeOptions(threads=threads)
        assert device.benchmark(request(block_model(SMALL), options=options)).runs >= 10


@pytest.mark.parametrize("options", [{"cpu": "big"}, {"delegate": "gpu"}, {"precision": "int8"}])
def test_what_it_cannot_do_is_refused(device: OnnxRuntimeDevice, options: dict[str, str]) -> None:
    wanted = request(block_model(SMALL), options=RuntimeOptions.model_validate(options))
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        device.benchmark(wanted)
    assert device.worker_pid is None
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        open_device(PipelineConfig.model_validate({"device": "onnxruntime", "runtime": options}), Path())


def test_a_model_that_onnx_runtime_refuses_is_told_with_its_words() -> None:
    with (
        OnnxRuntimeDevice(lambda _model, _name: b"this is no model") as device,
        pytest.raises(DeviceError, match=r"ONNX Runtime cannot run it \(\w+\): .*[Pp]rotobuf") as caught,
    ):
        device.benchmark(request(block_model(SMALL)))
    assert caught.value.raw


def test_a_model_with_other_inputs_is_refused(device: OnnxRuntimeDevice) -> None:
    wrong = np.zeros((1, 9, 9, 8), np.float32)
    with pytest.raises(DeviceError, match="the model takes float32"):
        device.run_model(block_model(SMALL), wrong)


def test_without_the_package_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(onnx_device, "version", missing)
    device: Device = OnnxRuntimeDevice(onnx_of)
    with pytest.raises(UsageError, match="onnxruntime, which is not installed") as caught:
        device.benchmark(request(block_model(SMALL)))
    assert caught.value.exit_code == 2
    assert "pip install 'nasflow[onnxruntime]'" in caught.value.hint
