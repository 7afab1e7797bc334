"""The only wiring: the configuration's sections, and the stages made of them.

Importing this is light (pydantic, no numpy), so that a mistake in ``pipeline.yaml`` is told at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, field_validator

from android_bench.device import Device, RuntimeOptions
from android_bench.transport import split_host_port
from nasflow.base.files import expand_home
from nasflow.devices import AndroidConfig, phone
from pipeline.artifact import Record
from pipeline.events import Emit
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from pipeline.store.store import Store
from stages.baseline import Baseline, BaselineConfig
from stages.conversion.config import ConvertConfig
from stages.convert import Convert
from stages.data.config import DataConfig
from stages.finetune import Finetune
from stages.latency.config import LatencyConfig
from stages.latency_model import FitLatency
from stages.nas.config import PruneConfig, SearchConfig
from stages.precheck import PrecheckConfig, PrecheckStage
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.prune import Prune
from stages.search import Search
from stages.space import SpaceConfig, load_space
from stages.training.recipe import FinetuneConfig
from stages.verify import Verify, VerifyConfig

_DEVICE_KINDS = ("local", "android")


class PipelineConfig(Record):
    """The whole of ``pipeline.yaml``; a section for each stage. Every key has a default."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="decides every random choice")
    device: str = Field(
        "local",
        description="where latency is measured: local is this computer's CPU, android the phone connected, "
        "android:SERIAL or android:HOST:PORT a certain one",
    )
    artifacts: str = Field(
        "artifacts", min_length=1, description="folder of all results, relative to this file"
    )
    offline: bool = Field(
        False, description="never download: neither the images nor a phone's benchmark_model"
    )
    data: DataConfig = Field(DataConfig(), description="the images to learn from")
    space: SpaceConfig = Field(SpaceConfig(), description="the family of networks to search")
    android: AndroidConfig = Field(AndroidConfig(), description="the phone, where the device is one")
    runtime: RuntimeOptions = Field(RuntimeOptions(), description="how models are run on the device")
    profile: ProfileConfig = Field(ProfileConfig(), description="measuring the building blocks")
    latency: LatencyConfig = Field(LatencyConfig(), description="predicting a network's latency")
    precheck: PrecheckConfig = Field(
        PrecheckConfig(), description="trying the conversion before anything is trained"
    )
    search: SearchConfig = Field(SearchConfig(), description="the architecture search")
    prune: PruneConfig = Field(PruneConfig(), description="keeping one path of each layer")
    finetune: FinetuneConfig = Field(FinetuneConfig(), description="training the networks")
    baseline: BaselineConfig = Field(BaselineConfig(), description="the MobileNetV2s to compare with")
    convert: ConvertConfig = Field(ConvertConfig(), description="conversion to TFLite")
    verify: VerifyConfig = Field(VerifyConfig(), description="the proof on the device")

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        kind = value.partition(":")[0]
        if kind not in _DEVICE_KINDS or value in {"local:", "android:"} or value.startswith("local:"):
            meant = f" (is 'android:{value}' meant?)" if split_host_port(value) else ""
            raise ValueError(
                f"there is no such device{meant}: 'local' is this computer, 'android' the phone connected, "
                "'android:SERIAL' or 'android:HOST:PORT' a certain one"
            )
        return value


def _silent(_text: str) -> None:
    """For commands that do not measure."""


def open_device(config: PipelineConfig, base_dir: Path, tell: Callable[[str], None] = _silent) -> Device:
    """The device that the configuration names; nothing is started or looked for yet.

    ``tell`` is given what a person should know meanwhile (a phone that must cool, a download).
    """
    if config.device.partition(":")[0] == "android":
        return phone(config.device, config.android, base_dir, tell, offline=config.offline)
    from android_bench.local.device import LocalDevice

    return LocalDevice()


def resolve_data(data: DataConfig, base_dir: Path) -> DataConfig:
    """The data section with its folder, if it names one, as an absolute path. Raises UsageError."""
    if data.folder is None:
        return data
    return data.model_copy(update={"folder": str((base_dir / expand_home(data.folder)).resolve())})


def artifacts_folder(config: PipelineConfig, base_dir: Path) -> Path:
    """Where all results lie. Raises UsageError."""
    return (base_dir / expand_home(config.artifacts)).resolve()


def build_stages(config: PipelineConfig, base_dir: Path, device: Device) -> tuple[Stage, ...]:
    """All stages in the order in which they run. Raises UsageError where the search space is none."""
    space = load_space(config.space, base_dir)
    data = resolve_data(config.data, base_dir)
    seed, runtime = config.seed, config.runtime
    prune = Prune(
        config=config.prune,
        space=space,
        data=data,
        runtime=runtime,
        seed=seed,
        device=device,
        further_targets=config.search.further_targets,
        recipe=config.finetune,
    )
    trained = prune.most_networks
    compared = trained + config.baseline.networks
    return (
        ProfileOps(config=config.profile, space=space, runtime=runtime, seed=seed, device=device),
        FitLatency(config=config.latency, space=space, runtime=runtime, seed=seed, device=device),
        PrecheckStage(
            config=config.precheck,
            convert=config.convert,
            space=space,
            runtime=runtime,
            seed=seed,
            device=device,
        ),
        Search(
            config=config.search,
            space=space,
            data=data,
            seed=seed,
            use_at_least=config.prune.use_at_least,
            prune_target_ms=config.prune.target_ms,
        ),
        prune,
        Finetune(config=config.finetune, data=data, seed=seed, networks=trained),
        Baseline(config=config.baseline, recipe=config.finetune, space=space, data=data, seed=seed),
        Convert(config=config.convert, data=data, networks=compared),
        Verify(config=config.verify, data=data, runtime=runtime, seed=seed, device=device, networks=compared),
    )


def build_pipeline(
    config: PipelineConfig, base_dir: Path, emit: Emit, *, device: Device | None = None
) -> Pipeline:
    """The pipeline of a configuration whose paths are relative to ``base_dir``.

    ``device`` replaces the one that the configuration names. Raises UsageError.
    """
    chosen = device if device is not None else open_device(config, base_dir)
    store = Store(artifacts_folder(config, base_dir), emit)
    return Pipeline(build_stages(config, base_dir, chosen), store, emit)
