"""The Python face: what ``nasflow`` does on the command line, as functions.

Each raises the errors of :mod:`nasflow.base.errors`, prints nothing, and imports what is heavy (torch,
TensorFlow) only where it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from android_bench.device import BenchmarkRequest, Device, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults
from nasflow.publish import ARCHITECTURE, COMPLETE, WEIGHTS, Published
from pipeline.events import Emit, Event, Message

if TYPE_CHECKING:
    from torch import nn

    from nasflow.commands.folds import FoldStatus
    from stages.documents import Prediction
    from stages.space.block_spec import ModelOutput
    from stages.space.search_space import NetConfig

__all__ = ["convert", "load_network", "measure", "predict_latency", "run", "ship"]


def _ignore(_event: Event) -> None:
    """For those who do not listen."""


def run(
    config: str | Path,
    settings: Sequence[str] = (),
    *,
    device: Device | None = None,
    until: str | None = None,
    on_event: Emit = _ignore,
) -> Published | None:
    """Run every stage that is not up to date, and write ``artifacts/latest``.

    ``config`` is the path of a ``pipeline.yaml``, ``settings`` changes keys of it (``"search.epochs=20"``).
    ``device`` replaces the one that it names, ``until`` is the last stage to run, ``on_event`` is told of
    progress, as are ``run.log`` and ``events.jsonl`` of a new folder in ``artifacts/runs``, which
    ``nasflow report --serve`` shows. Returns the figures and files of the finished run; None where it stopped
    earlier.

    >>> from nasflow import api
    >>> done = api.run(tiny / "pipeline.yaml", device=simulated, until="latency")
    >>> done is None  # only a whole run has a result
    True
    """
    from nasflow.cli.request import Selection
    from nasflow.commands.beforehand import decode_images
    from nasflow.commands.folds import all_stale, folds_status, planned, run_other_folds, together
    from nasflow.commands.project import decided, open_project
    from nasflow.publish import images_of, publish
    from pipeline.reporters.event_file import EventFileReporter
    from pipeline.reporters.reporters import LogFileReporter

    told: list[Event] = []
    listeners: list[Emit] = [on_event, told.append]

    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    project = open_project(
        Selection(Path(config), tuple(settings)),
        tell=lambda notice: emit(Message("", notice, level="warning")),
    )
    with ExitStack() as stack:
        measured = stack.enter_context(closing(device if device is not None else project.open_device()))
        pipeline = project.pipeline(emit, measured)
        log = stack.enter_context(closing(LogFileReporter(project.artifacts / "runs")))
        files = log, stack.enter_context(closing(EventFileReporter(log.folder)))
        for event in told:
            for file in files:
                file(event)
        listeners[1:] = files
        pipeline.check(until)
        settled = decided(project, pipeline, emit, until)
        if settled != project:
            project, pipeline = settled, settled.pipeline(emit, measured)
        with pipeline.store.lock():
            stages = pipeline.status(until)
            folds: Sequence[FoldStatus] = ()
            if {stage.name for stage in stages} >= COMPLETE:
                folds = folds_status(project, pipeline, emit, device=measured)
            emit(planned(stages, folds))
            decode_images(pipeline, all_stale(stages, folds), emit)
            documents = pipeline.run(until)
            if not documents.keys() >= COMPLETE:
                return None
            further = run_other_folds(pipeline, folds, emit)
            return publish(
                documents,
                pipeline.store,
                project.latest,
                project.config,
                emit,
                folds=together([documents, *further]),
                data=images_of(pipeline),
            )


def load_network(folder: str | Path) -> nn.Module:
    """The network of a finished run, for PyTorch, in eval mode.

    ``folder`` is ``artifacts/latest``, or another one with its ``network.json`` and ``network.safetensors``.
    The module takes float32 (N, channels, H, W), ``(pixel - 127.5) / 127.5``, and returns logits
    (N, classes). Raises UsageError, MachineError and IntegrityError.
    """
    from stages.nn.network import load_network as load

    network = _architecture(Path(folder, ARCHITECTURE))
    weights = Path(folder, WEIGHTS)
    with disk_faults(weights, "read"):
        content = weights.read_bytes()
    return load(network, content)


def predict_latency(
    network: NetConfig | str | Path, config: str | Path, *, device: Device | None = None
) -> Prediction:
    """How long a network takes on the device of a configuration whose latency model is measured.

    ``network`` is an architecture, or a file with one (``network.json``). The answer has ``ms``, and the
    95 % interval ``low_ms`` to ``high_ms``. ``device`` is that of :func:`run`. Raises UsageError where the
    model is not there yet.

    >>> from stages.space import SpaceConfig, load_space
    >>> done = api.run(tiny / "pipeline.yaml", device=simulated, until="latency")
    >>> space = load_space(SpaceConfig(name=str(tiny / "tiny.yaml")))
    >>> network = space.network([0] * len(space.layers()))
    >>> predicted = api.predict_latency(network, tiny / "pipeline.yaml", device=simulated)
    >>> predicted.low_ms <= predicted.ms <= predicted.high_ms
    True
    """
    from nasflow.cli.request import Selection
    from nasflow.commands.measured_model import measured_model
    from nasflow.commands.project import open_project

    project = open_project(Selection(Path(config)), tell=lambda _notice: None)
    _, model = measured_model(project.pipeline(_ignore, device))
    net = _architecture(Path(network)) if isinstance(network, str | Path) else network
    return model.predict(net)


def measure(
    models: Mapping[str, bytes],
    device: Device | None = None,
    *,
    runtime: RuntimeOptions | None = None,
    rounds: int = 5,
    min_ms: float = 500.0,
) -> dict[str, LatencyMeasurement]:
    """Time ``.tflite`` models side by side: every model once a round, in random order.

    ``device``: this computer, unless another is given, which stays open. Raises DeviceError.

    >>> from stages.conversion.flatbuffer import empty_model
    >>> times = api.measure({"empty": empty_model()}, simulated, rounds=3)
    >>> times["empty"].rounds
    3
    """
    from android_bench.local.device import LocalDevice
    from pipeline.store.scratch import FleetingScratch
    from stages.measurement.paired import PairedRounds

    options = runtime if runtime is not None else RuntimeOptions()
    requests = {
        name: BenchmarkRequest(name=name, model=model, options=options, warmup_ms=100.0, min_ms=min_ms)
        for name, model in models.items()
    }
    if device is None:
        with closing(LocalDevice()) as local:
            return measure(models, local, runtime=runtime, rounds=rounds, min_ms=min_ms)
    timed = PairedRounds(FleetingScratch(), device, requests, seed=0)
    while len(timed) < rounds:
        timed.measure()
    return {name: timed.combined(name) for name in requests}


def convert(
    module: nn.Module,
    *,
    resolution: int,
    channels: int = 3,
    name: str = "network",
    output: ModelOutput = "probabilities",
) -> bytes:
    """A PyTorch network in eval mode as a float32 ``.tflite`` model.

    The module takes (N, channels, resolution, resolution) and returns logits (N, classes); the model takes
    (1, resolution, resolution, channels) and answers with probabilities (1, classes): a softmax is added.
    With ``output="logits"`` it answers with what the module returns. PyTorch to ONNX to TensorFlow to TFLite,
    which takes some ten seconds. Raises ConversionError.
    """
    from stages.conversion.chain import convert_module
    from stages.conversion.converter import TensorflowConverter
    from stages.conversion.softmax import with_output

    with TensorflowConverter() as converter:
        model = convert_module(module, converter, resolution=resolution, channels=channels, name=name)
    return with_output(model, output, name=name)


def ship(
    run: str | Path,
    version: str,
    *,
    name: str = "",
    author: str = "",
    licence: str = "",
    allow_unverified: bool = False,
) -> Path:
    """Pack a finished run's network for apps, as ``nasflow ship`` does; returns the package's folder.

    ``run``: a project's folder, its ``pipeline.yaml``, or its ``artifacts/latest``. ``name``: the project
    folder's, unless another is given. Raises UsageError where it may not be shipped or that version has
    other content, GateFailedError, InconclusiveError, ConversionError, IntegrityError and MachineError.
    """
    from nasflow.commands.ship import ShipRequest, find_run
    from nasflow.commands.ship import ship as pack

    request = ShipRequest(version, name, author, licence, allow_unverified)
    return Path(pack(find_run(Path(run)), request).document["folder"])


def _architecture(path: Path) -> NetConfig:
    from nasflow.commands.latency_predict import read_network

    if not path.is_file():
        raise UsageError(f"{path} does not exist.", hint="Use the folder artifacts/latest of a finished run.")
    return read_network(path)
