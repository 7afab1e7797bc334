"""The only wiring: from a configuration to the device and the stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from android_bench.device import Device, RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.base.files import expand_home
from nasflow.config import PipelineConfig
from nasflow.devices import phone
from pipeline.events import Emit
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from pipeline.store.store import Store
from stages.baseline import Baseline, BaselineConfig
from stages.convert import Convert
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.documents import Precision
from stages.finetune import Finetune
from stages.latency_model import FitLatency
from stages.measurement.config import with_shared
from stages.nn.timm_weights import check_fetched, is_timm
from stages.precheck import PrecheckStage
from stages.profile_ops import ProfileOps
from stages.prune import Prune
from stages.search import Search
from stages.space import load_space, space_for
from stages.space.block_spec import Implementation
from stages.space.search_space import SearchSpace
from stages.training.distillation import FULL
from stages.training.recipe import TrainingConfig
from stages.verify import Verify

if TYPE_CHECKING:
    from android_bench.found_phone import FoundPhone


def _silent(_text: str) -> None:
    """For commands that do not measure."""


def open_device(
    config: PipelineConfig,
    base_dir: Path,
    tell: Callable[[str], None] = _silent,
    found: FoundPhone | None = None,
) -> Device:
    """The device that the configuration names; nothing is started or looked for yet.

    ``tell`` is given what a person should know meanwhile (a phone that must cool, a download). ``found``: the
    phone that is meant, which then is not looked for. Raises UsageError for options of the section
    ``runtime`` that the device cannot follow.
    """
    kind = config.device.partition(":")[0]
    if kind == "cuda":
        return cuda_gpu(config.device, config.runtime, tell)
    if kind == "android":
        config.runtime.check_single("a phone")
        return phone(config.device, config.android, base_dir, tell, offline=config.offline, found=found)
    if kind == "onnxruntime":
        return onnx_runtime(config.runtime)
    from android_bench.local.device import LocalDevice

    computer = LocalDevice()
    computer.refuse(config.runtime)
    return computer


def onnx_runtime(options: RuntimeOptions) -> Device:
    """This computer with ONNX Runtime. Raises UsageError for options that it cannot follow."""
    from android_bench.local.onnx_device import OnnxRuntimeDevice

    def translate(model: bytes, name: str) -> bytes:
        from stages.conversion.onnx_file import onnx_of

        return onnx_of(model, name)

    device = OnnxRuntimeDevice(translate)
    device.refuse(options)
    return device


def cuda_gpu(name: str, options: RuntimeOptions, tell: Callable[[str], None] = _silent) -> Device:
    """The GPU that ``cuda`` or ``cuda:N`` stands for. Raises UsageError for options that it cannot follow."""
    from android_bench.local.cuda_device import CudaDevice

    def translate(model: bytes, name: str) -> bytes:
        from stages.conversion.onnx_file import onnx_of

        return onnx_of(model, name, half=True)

    device = CudaDevice(translate, target=name if ":" in name else f"{name}:0", tell=tell)
    device.refuse(options)
    return device


def measurable_precisions(device: str) -> tuple[Precision, ...]:
    """Those of the files that a device, by its name in the configuration, can run."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        from android_bench.local.cuda_device import PRECISIONS

        return PRECISIONS
    return ("float32",) if kind == "onnxruntime" else get_args(Precision)


def resolve_data(data: DataConfig, base_dir: Path) -> DataConfig:
    """The data section with its paths, if it has any, as absolute ones. Raises UsageError."""
    paths = {"path": data.path, "split_file": data.split_file}
    absolute = {
        name: str((base_dir / expand_home(path)).resolve())
        for name, path in paths.items()
        if path is not None
    }
    if data.source == "hub" and data.name is not None:
        local = base_dir / expand_home(data.name)
        if local.is_dir():  # not by its name: where it lies decides no result
            absolute["path"] = str(local.resolve())
    return data.model_copy(update=absolute)


def space_and_images(config: PipelineConfig, base_dir: Path) -> tuple[SearchSpace, SizedData]:
    """The search space and the images as they fit each other: classes, channels, pixels.

    A space keeps its own numbers beside Fashion-MNIST, whose images need not be what it is measured for.
    Raises UsageError, and DatasetMissingError where a folder of images is not there.
    """
    data, auto = resolve_data(config.data, base_dir), config.space.resolution == "auto"
    if data.source == "fashion_mnist" and not auto:
        space = load_space(config.space, base_dir)
    else:
        dataset = open_dataset(data)
        space = space_for(
            config.space,
            base_dir,
            classes=len(dataset.class_names),
            channels=dataset.channels if data.source == "fashion_mnist" else None,
            natural_resolution=dataset.natural_resolution if auto else 0,
        )
    if data.source != "fashion_mnist" and space.input_channels not in (1, 3):
        raise UsageError(
            f"space {space.name} has input_channels {space.input_channels}; images are read as grey (1) or "
            "as colours (3).",
            hint="Set input_channels to 1 or 3 in the space's file.",
        )
    sized = {**dict(data), "resolution": space.resolution, "channels": space.input_channels}
    return space, SizedData.model_validate(sized)


def resolve_teacher(training: TrainingConfig, base_dir: Path) -> TrainingConfig:
    """The training section; its teacher's folder, if any, as an absolute one. Raises UsageError."""
    if training.teacher.network in (None, FULL):
        return training
    folder = str((base_dir / expand_home(training.teacher.network)).resolve())
    return training.model_copy(update={"teacher": training.teacher.model_copy(update={"network": folder})})


def resolve_baseline(baseline: BaselineConfig, base_dir: Path, *, offline: bool = False) -> BaselineConfig:
    """The baseline section, the path of its weights' mapping file as an absolute one.

    Raises UsageError, and MachineError where timm's weights are wanted and may not be fetched.
    """
    if baseline.pretrained is None:
        return baseline
    if is_timm(baseline.pretrained):
        if offline:
            check_fetched(baseline.pretrained)
        return baseline
    path = str((base_dir / expand_home(baseline.pretrained)).resolve())
    return baseline.model_copy(update={"pretrained": path})


def artifacts_folder(config: PipelineConfig, base_dir: Path) -> Path:
    """Where all results lie. Raises UsageError."""
    return (base_dir / expand_home(config.artifacts)).resolve()


def build_stages(
    config: PipelineConfig,
    base_dir: Path,
    device: Device,
    fitted: tuple[SearchSpace, SizedData] | None = None,
) -> tuple[Stage, ...]:
    """All stages in the order in which they run. Raises UsageError where the search space is none.

    ``fitted``: space and images that fit each other, where the images are not here to be asked.
    """
    space, data = space_and_images(config, base_dir) if fitted is None else fitted
    training = resolve_teacher(config.training, base_dir)
    seed, runtime = config.seed, config.runtime
    # ONNX Runtime is given what the conversion exports, in which every block is computed as it is written.
    onnx = config.device == "onnxruntime"
    engine: Literal["tflite", "onnx"] = "onnx" if onnx else "tflite"
    measured = space.model_copy(update={"pretrained": None})  # other weights take no other time
    prune = Prune(
        config=with_shared(config.prune, config.measurement),
        target=config.target,
        space=space,
        data=data,
        runtime=runtime,
        seed=seed,
        device=device,
    )
    trained = prune.most_networks
    compared = trained + config.baseline.networks
    return (
        ProfileOps(
            config=with_shared(config.profile, config.measurement),
            space=measured,
            runtime=runtime,
            seed=seed,
            device=device,
            model_output=config.convert.output,
            ways=("native",) if onnx else get_args(Implementation),
        ),
        FitLatency(
            config=with_shared(config.latency, config.measurement),
            space=measured,
            runtime=runtime,
            seed=seed,
            device=device,
        ),
        PrecheckStage(
            config=with_shared(config.precheck, config.measurement, own=("rounds",)),
            convert=config.convert,
            space=measured,
            runtime=runtime,
            seed=seed,
            device=device,
            max_thermal_status=config.android.max_thermal_status,
            engine=engine,
        ),
        Search(
            config=config.search,
            target=config.target,
            space=space,
            data=data,
            seed=seed,
            precision=config.training.precision,
        ),
        prune,
        Finetune(config=training, space=space, data=data, seed=seed, networks=trained),
        Baseline(
            config=resolve_baseline(config.baseline, base_dir, offline=config.offline),
            recipe=training,
            space=space,
            data=data,
            seed=seed,
        ),
        Convert(
            config=config.convert,
            data=data,
            recipe=training,
            precision=runtime.precision,
            delegate=runtime.delegate,
            seed=seed,
            networks=compared,
        ),
        Verify(
            config=config.verify,
            data=data,
            runtime=runtime,
            seed=seed,
            device=device,
            networks=compared,
            measurable=measurable_precisions(config.device),
            max_thermal_status=config.android.max_thermal_status,
            engine=engine,
        ),
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
