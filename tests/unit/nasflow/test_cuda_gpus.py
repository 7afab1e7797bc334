"""A GPU of this computer, as commands and configuration know it: workers answer as PyTorch would with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from support import scripted_worker
from support.fake_nvml import UUID, FakeNvml

from android_bench.device import Conditions, DeviceInfo, RuntimeOptions
from android_bench.local.cuda_device import CudaDevice
from nasflow.cli.app import main
from nasflow.cli.request import Selection
from nasflow.commands import devices
from nasflow.commands.beforehand import doubtful_settings
from nasflow.commands.project import open_project
from nasflow.config import PipelineConfig
from nasflow.doctor import checks
from nasflow.hardware_targets import parse_targets
from stages.reporting.result import DeviceResult

H200 = {
    "name": "NVIDIA H200",
    "uuid": UUID,
    "capability": "9.0",
    "processors": 132,
    "memory_bytes": 140 << 30,
}
TIMES = {
    "median_ms": 0.25,
    "p5_ms": 0.24,
    "p95_ms": 0.27,
    "min_ms": 0.23,
    "runs": 100,
    "resolution_ms": 0.0005,
}


def pytorch_finds(monkeypatch: pytest.MonkeyPatch, *gpus: object, why_none: str = "") -> None:
    found = {"runtime": "torch 2.13.0+cu130, CUDA 13.0, cuDNN 91400", "gpus": gpus, "why_none": why_none}
    program = (scripted_worker.__file__, json.dumps({"gpus": found, "benchmark": TIMES}))
    monkeypatch.setattr(CudaDevice, "program", program)


@pytest.fixture(autouse=True)
def no_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_phones", lambda **_: ())


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:11"])
def test_a_gpu_is_named_by_its_number(name: str) -> None:
    assert PipelineConfig(device=name).device == name


@pytest.mark.parametrize(
    "name", ["cuda:", "cuda:x", "cuda:-1", "cuda:100", "cuda0", "gpu", "local:0", "android:"]
)
def test_what_names_no_device_is_refused_with_all_that_do(name: str) -> None:
    with pytest.raises(ValidationError, match="'cuda' or 'cuda:N'"):
        PipelineConfig(device=name)


def test_a_gpu_with_its_settings_is_a_target_among_others() -> None:
    target = parse_targets("local,cuda:1@batch=8@precision=float16")[1]
    assert target.overrides == ("device=cuda:1", "runtime.batch=8", "runtime.precision=float16")


def test_batches_are_written_only_where_there_are_any() -> None:
    assert "batch" not in RuntimeOptions().model_dump(), "what was measured before keeps its fingerprint"
    assert RuntimeOptions(batch=8).model_dump()["batch"] == 8
    assert RuntimeOptions(batch=8, precision="float16").describe("cuda") == "batch 8, float16"
    assert RuntimeOptions().describe("cuda") == "batch 1"


def test_reports_tell_a_gpus_batch_in_the_place_of_threads() -> None:
    fields = {"model": "m", "soc": "s", "os_build": "o", "runtime": "r", "cpu": "auto", "delegate": "cpu"}
    gpu = DeviceResult.model_validate({**fields, "kind": "cuda", "threads": 1, "batch": 8, "virtual": False})
    here = DeviceResult.model_validate({**fields, "kind": "local", "threads": 2, "virtual": False})
    assert (gpu.run_with, here.run_with) == ("batch 8", "2 threads")
    assert "batch" not in here.model_dump()


def test_the_documents_of_other_devices_say_nothing_of_gpus() -> None:
    written = Conditions.model_validate({"at": "2026-11-01T00:00:00Z"}).model_dump()
    assert not {"gpu_mhz", "gpu_celsius", "throttled_by", "other_programs"} & written.keys()
    assert (
        DeviceInfo(kind="cuda", model="m", soc="s", os_build="o", runtime="r").identity()["device_kind"]
        == "cuda"
    )


def test_gpus_are_listed_with_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytorch_finds(monkeypatch, H200, {**H200, "name": "NVIDIA L4", "memory_bytes": 24 << 30})
    monkeypatch.setattr(devices, "driver_is_here", lambda: True)
    assert main(["devices"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == [
        "cuda:0  NVIDIA H200, 140 GiB",
        "cuda:1  NVIDIA L4, 24 GiB",
        "Next: nasflow doctor --device cuda:0",
    ]
    assert "No phone is connected. Check:" in lines
    assert main(["devices", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [gpu["name"] for gpu in document["gpus"]] == ["cuda:0", "cuda:1"]


def test_a_driver_without_a_gpu_for_pytorch_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytorch_finds(monkeypatch, why_none="torch 2.13.0+cpu is built without CUDA")
    monkeypatch.setattr(devices, "driver_is_here", lambda: True)
    assert main(["devices"]) == 0
    assert "no GPU can be measured: torch 2.13.0+cpu is built without CUDA." in capfd.readouterr().out


def test_without_a_driver_pytorch_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CudaDevice, "program", ("-c", "raise SystemExit(9)"))
    monkeypatch.setattr(devices, "driver_is_here", lambda: False)
    assert main(["devices", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["gpus"] == []


def gpu_check(tmp_path: Path) -> checks.Check:
    settings = ("device=cuda", "runtime.batch=8", "runtime.precision=float16")
    path = tmp_path / "pipeline.yaml"
    path.touch()
    return {check.name: check for check in checks.examine_all(path, tmp_path, settings)}["cuda"]


def test_doctor_times_a_network_as_it_is_to_be_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytorch_finds(monkeypatch, H200)
    FakeNvml().install(monkeypatch)
    check = gpu_check(tmp_path)
    assert check.state == "ok"
    assert check.found.startswith("torch 2.13.0+cu130, CUDA 13.0, cuDNN 91400: MobileNetV2 0.35")
    assert check.found.endswith("in 0.250 ms (batch 8, float16)")


def test_doctor_warns_of_a_gpu_that_others_use_and_that_is_slowed_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytorch_finds(monkeypatch, H200)
    FakeNvml(reasons=0x4, pids=(4_000_000, 4_000_001)).install(monkeypatch)
    check = gpu_check(tmp_path)
    assert check.state == "warning"
    assert "the GPU is slowed down (power limit)." in check.found
    assert "1 other program computed on the GPU" in check.found, "of two, one is ours, in a container"


def test_doctor_tells_that_a_gpu_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytorch_finds(monkeypatch, why_none="torch 2.13.0+cpu is built without CUDA")
    check = gpu_check(tmp_path)
    assert check.state == "failed"
    assert "no CUDA GPU that can be measured: torch 2.13.0+cpu is built without CUDA" in check.found
    assert "--device local" in check.mend


@pytest.mark.parametrize(("batch", "warned"), [(1, True), (8, False)])
def test_one_image_at_a_time_on_a_gpu_is_told_before_a_run(tmp_path: Path, batch: int, warned: bool) -> None:
    path = tmp_path / "pipeline.yaml"
    path.touch()
    project = open_project(Selection(path, ("device=cuda", f"runtime.batch={batch}")))
    pipeline = project.pipeline(lambda _event: None)
    stages = pipeline.status(environment=lambda _stage: {})
    told = doubtful_settings(project.config, pipeline, stages)
    assert bool(told) == warned
    assert not warned or "runtime.batch is 1" in told[0]


def test_a_missing_gpu_ends_a_command_with_one_line_and_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytorch_finds(monkeypatch, why_none="torch 2.13.0+cpu is built without CUDA")
    (tmp_path / "pipeline.yaml").touch()
    code = main(["profile", "--config", str(tmp_path / "pipeline.yaml"), "--device", "cuda:0"])
    error, hint = [line for line in capfd.readouterr().err.splitlines() if line][-2:]
    assert code == 4
    assert error.startswith("error: this computer has no CUDA GPU that can be measured: torch 2.13.0+cpu")
    assert "https://pytorch.org/get-started/locally/" in hint
