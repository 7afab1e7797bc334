"""Which latency model is a device's own, and what is refused before several devices share a search."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.latency_spaces import SPACE
from support.simulated_device import SIMULATED, SimulatedDevice

from android_bench.device import Device, DeviceInfo, RuntimeOptions
from nasflow.base.errors import InfeasibleTargetError, NoUsableDeviceError, UsageError
from nasflow.commands.cross_check import check_targets, open_devices
from nasflow.commands.cross_measure import latest_search
from nasflow.commands.measured_model import measured_model, refuse_to_replace
from nasflow.commands.project import Project
from nasflow.config import PipelineConfig
from pipeline.events import Emit
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.data.config import DataConfig
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.nas.config import SearchConfig
from stages.nas.targets import TargetConfig
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.search import Search

OPTIONS = RuntimeOptions()


@dataclass
class Phone(SimulatedDevice):
    """One of several of a kind, which may be unplugged."""

    serial: str = "A"
    here: bool = True
    slower: float = 1.0

    def info(self) -> DeviceInfo:
        if not self.here:
            raise NoUsableDeviceError(f"{self.serial} is used by another program.")
        return SIMULATED.model_copy(update={"serial": self.serial})

    def true_ms(self, model: bytes) -> float:
        return self.slower * super().true_ms(model)


def silent(_event: object) -> None:
    """Tell nobody."""


def pipeline_on(
    folder: Path, device: Device, emit: Emit = silent, target_ms: float | None = None
) -> Pipeline:
    quick = {"rounds": 3, "extra_rounds": 0}
    profile = ProfileOps(ProfileConfig.model_validate(quick), SPACE, OPTIONS, 0, device)
    latency = FitLatency(LatencyConfig.model_validate(quick), SPACE, OPTIONS, 0, device)
    target = TargetConfig(ms=target_ms)
    search = Search(config=SearchConfig(), target=target, space=SPACE, data=DataConfig(), seed=0)
    return Pipeline([profile, latency, search], Store(folder, emit), emit)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A folder in which phone A was measured."""
    pipeline_on(tmp_path, Phone()).run("latency")
    return tmp_path


def test_without_its_device_a_model_is_what_was_measured_last_and_never_another_devices(
    measured: Path,
) -> None:
    gone = pipeline_on(measured, Phone(here=False))
    assert measured_model(gone)[1].device.serial == "A", "for what needs no device"
    with pytest.raises(NoUsableDeviceError, match="used by another program"):
        measured_model(gone, present=True)
    with pytest.raises(NoUsableDeviceError, match="used by another program"):
        latest_search(gone)
    with pytest.raises(UsageError, match="stage search is no longer up to date"):
        latest_search(pipeline_on(measured, Phone()))


def test_another_phone_of_the_kind_is_not_told_that_it_was_measured(measured: Path) -> None:
    with pytest.raises(UsageError, match="This device has been measured already") as caught:
        refuse_to_replace(pipeline_on(measured, Phone()), "the adapted model")
    assert "--force" in caught.value.hint
    other = pipeline_on(measured, Phone(serial="B"))
    with pytest.raises(UsageError, match="is A, and this one, of the same kind, is B") as caught:
        refuse_to_replace(other, "the adapted model")
    assert "--set artifacts=FOLDER" in caught.value.hint
    refuse_to_replace(pipeline_on(measured / "of_its_own", Phone(serial="B")), "the adapted model")


def project_of(folder: Path, measured_on: Device, target_ms: float) -> Project:
    """A project whose pipeline measures that device."""

    def build(
        config: PipelineConfig, base_dir: Path, emit: Emit, *, device: Device | None = None
    ) -> Pipeline:
        return pipeline_on(folder, measured_on, emit, target_ms)

    return Project(PipelineConfig(), folder / "pipeline.yaml", build)


def test_a_target_that_the_second_device_cannot_meet_is_known_before_the_search(tmp_path: Path) -> None:
    devices: Mapping[str, Phone] = {"fast": Phone(), "slow": Phone(serial="B", slower=20.0)}
    for name, device in devices.items():
        pipeline_on(tmp_path / name, device).run("latency")
    models = {
        name: measured_model(pipeline_on(tmp_path / name, device))[1] for name, device in devices.items()
    }
    target_ms = models["fast"].feasible_ms[1]
    assert target_ms < models["slow"].feasible_ms[0]
    projects = {name: project_of(tmp_path / name, device, target_ms) for name, device in devices.items()}
    check_targets({"fast": projects["fast"]}, silent)
    with pytest.raises(InfeasibleTargetError, match="no network of the space takes"):
        check_targets(projects, silent)


def test_all_settings_of_a_device_share_one_object_of_it(tmp_path: Path) -> None:
    """A phone on USB takes one connection: a second one would be told that the phone is busy."""
    settings = [("android:S", {"delegate": "gpu"}), ("android:S", {}), ("local", {}), ("android:R", {})]
    projects = {
        f"{device} {options}": Project(
            PipelineConfig.model_validate({"device": device, "runtime": options}), tmp_path / "pipeline.yaml"
        )
        for device, options in settings
    }
    with ExitStack() as stack:
        gpu, cpu, local, other = open_devices(projects, stack, silent).values()
        assert gpu is cpu
        assert len({id(cpu), id(local), id(other)}) == 3
