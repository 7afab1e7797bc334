"""The whole of ``pipeline.yaml``: one model for each section, from the package that it belongs to.

Importing this is light (pydantic, no numpy), so that a mistake in ``pipeline.yaml`` is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from android_bench.device import RuntimeOptions
from android_bench.transport import split_host_port
from nasflow.devices import AndroidConfig
from pipeline.artifact import Record
from pipeline.config.moved import Moved
from stages.baseline import BaselineConfig
from stages.conversion.config import ConvertConfig
from stages.data.config import DataConfig
from stages.latency.config import LatencyConfig
from stages.measurement.config import MeasurementConfig
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.targets import TargetConfig
from stages.precheck import PrecheckConfig
from stages.profile_ops import ProfileConfig
from stages.reporting.config import ReportConfig
from stages.space import SpaceConfig
from stages.training.recipe import TrainingConfig
from stages.verify import VerifyConfig

_DEVICES = re.compile(r"local|onnxruntime|cuda(:[0-9]{1,2})?|android(:.+)?", re.DOTALL)


def _several_targets(value: Any) -> Mapping[str, Any]:
    """``search.targets``: the first was searched for."""
    if not isinstance(value, list) or not value:
        return {"target.further": value}
    first, *further = value
    searched = (
        {f"target.{key}": inner for key, inner in first.items()}
        if isinstance(first, dict)
        else {"target.ms": first}
    )
    return {**searched, "target.further": further}


def _data_name(value: Any) -> Mapping[str, Any] | None:
    """``data.name`` was what ``data.source`` is; today it names a data set of the hub."""
    return {"data.source": value} if value == "fashion_mnist" else None


def _validation_images(value: Any) -> Mapping[str, Any]:
    """One half for the architecture, the other for choices."""
    if not isinstance(value, int) or isinstance(value, bool):
        return {"data.architecture_images": value}
    return {"data.architecture_images": value // 2, "data.choice_images": value - value // 2}


class PipelineConfig(Record):
    """The whole of ``pipeline.yaml``: sections by subject and by stage. Every key has a default."""

    MOVED: ClassVar[Moved] = {
        "data.name": _data_name,
        "data.folder": "data.path",
        "data.validation_images": _validation_images,
        "search.target": "target",
        "search.target_ms": "target.ms",
        "search.targets": _several_targets,
        "search.price_rate": "search.multiplier_rate",
        "search.price_damping": "search.multiplier_damping",
        "search.price_limit": "search.multiplier_limit",
        "search.gradient": "search.estimator",
        "search.draws_per_step": "search.paths_per_step",
        "search.reinforce.draws_per_step": "search.paths_per_step",
        "search.reinforce.baseline_decay": "search.baseline_decay",
        "prune.target_ms": "target.pick_ms",
        "prune.front": "target.front",
        "prune.use_at_least": "target.minimum_share",
        "prune.generations": None,
        "prune.rank_by": None,
        "prune.evaluations": None,
        "prune.shortlist": None,
        "prune.select_by": None,
        "prune.judge_by": None,
        "prune.trial_epochs": None,
        "finetune": "training",
    }

    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of every random choice")
    device: str = Field(
        "local",
        description="where latency is measured: local (this computer's CPU, with LiteRT), onnxruntime (this "
        "computer's CPU, with ONNX Runtime), cuda or cuda:N (a GPU of this computer, with PyTorch), android "
        "(the connected phone), android:SERIAL or android:HOST:PORT (a specific phone)",
    )
    artifacts: str = Field(
        "artifacts", min_length=1, description="folder of all results, relative to this file"
    )
    offline: bool = Field(False, description="do not download anything (images, benchmark_model for a phone)")
    data: DataConfig = Field(DataConfig(), description="the images to train on")
    space: SpaceConfig = Field(SpaceConfig(), description="the family of networks to search")
    android: AndroidConfig = Field(AndroidConfig(), description="the phone, if the device is a phone")
    runtime: RuntimeOptions = Field(RuntimeOptions(), description="how models are run on the device")
    measurement: MeasurementConfig = Field(
        MeasurementConfig(),
        description="how models are timed on the device; profile, latency and prune can override any of "
        "these keys, and precheck can override warmup_ms and min_ms",
    )
    target: TargetConfig = Field(
        TargetConfig(), description="how fast the network must be on the device: in milliseconds, or relative"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="how all compared networks are trained")
    profile: ProfileConfig = Field(
        ProfileConfig(), description="stage 1: measure the latency of every building block"
    )
    latency: LatencyConfig = Field(
        LatencyConfig(), description="stage 2: predict the latency of whole networks, and measure the error"
    )
    precheck: PrecheckConfig = Field(
        PrecheckConfig(),
        description="stage 3: check on untrained networks that every kind of block is converted as it was "
        "measured",
    )
    search: SearchConfig = Field(
        SearchConfig(),
        description="stage 4: search for the most accurate network of the family within the target",
    )
    prune: PruneConfig = Field(
        PruneConfig(),
        description="stage 5: keep one path of each layer; stage 6, finetune, trains the result",
    )
    baseline: BaselineConfig = Field(
        BaselineConfig(), description="stage 7: train the MobileNetV2 baselines for comparison"
    )
    convert: ConvertConfig = Field(
        ConvertConfig(), description="stage 8: PyTorch -> ONNX -> TensorFlow -> TFLite, for every network"
    )
    verify: VerifyConfig = Field(
        VerifyConfig(), description="stage 9: compare all networks on the device and on the test images"
    )

    report: ReportConfig = Field(ReportConfig(), description="what report.html shows beside the figures")

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICES.fullmatch(value):
            meant = f" (did you mean 'android:{value}'?)" if split_host_port(value) else ""
            raise ValueError(
                f"there is no such device{meant}: use 'local' (this computer), 'onnxruntime' (this "
                "computer with ONNX Runtime), 'cuda' or 'cuda:N' (a GPU of this computer), 'android' (the "
                "connected phone), 'android:SERIAL' or 'android:HOST:PORT' (a specific phone)"
            )
        return value
