"""``nasflow latency adapt``: another device's latency model, made this one's by a few measurements."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from android_bench.device import RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from nasflow.cli.request import Outcome, Selection
from nasflow.cli.screen import screen
from nasflow.commands.measured_model import refuse_to_replace, stage_of
from nasflow.commands.project import open_project
from pipeline.events import Message
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from stages.documents import HeldOutError, LatencyModel, LatencyTable
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileOps

NETWORKS = HELD_OUT = 10


def adapt_model(
    selection: Selection, source: Path, *, networks: int, held_out: int, force: bool, as_json: bool
) -> Outcome:
    """Measure a few networks, and use the file's model, adapted by them, in place of a full measurement.

    Raises UsageError where the file is of another space or precision, or where this device has been measured
    in full and ``force`` is not set; DeviceError, BadMeasurementError.
    """
    from stages.latency.adapt_device import adapt_to_device
    from stages.latency.exchange import differences, read_latency_file

    project = open_project(selection)
    with (
        closing(screen(as_json=as_json)) as reporter,
        closing(project.open_device(lambda text: reporter(Message("latency", text)))) as device,
    ):
        pipeline = project.pipeline(reporter, device)
        stage, profile = stage_of(pipeline, FitLatency), stage_of(pipeline, ProfileOps)
        file = read_latency_file(source, stage.space, profile.anchor(), device.info())
        refuse_other_precision(source, file.table, stage.runtime)
        if not force:
            refuse_to_replace(pipeline, "the adapted model, which is less exact,")
        context = Context("latency", "", pipeline.store, FleetingScratch(), reporter)
        with pipeline.store.lock():
            adapted = adapt_to_device(
                file.model,
                stage.space,
                device,
                stage.config,
                stage.runtime,
                context,
                networks=networks,
                held_out=held_out,
                seed=stage.seed,
            )
        foreign = differences(
            file.table, file.model, device.info(), stage.runtime, output=profile.model_output
        )
        pipeline.adopt({"profile": file.table.model_copy(update={"foreign": foreign}), "latency": adapted})
    return Outcome(_document(source, adapted, foreign), "\n".join(_lines(adapted, foreign)))


def refuse_other_precision(source: Path, table: LatencyTable, runtime: RuntimeOptions) -> None:
    """Raises UsageError where a file's latencies are of models in another precision."""
    if table.precision != runtime.precision:
        raise UsageError(
            f"{source} holds the latencies of {table.precision} models, and what is searched is "
            f"{runtime.precision}: the order of networks differs between precisions.",
            hint="Measure this device (nasflow latency), or set runtime.precision as in the file.",
        )


def _document(source: Path, model: LatencyModel, foreign: tuple[str, ...]) -> dict[str, Any]:
    assert model.adaptation is not None
    return {
        "adapted": str(source.resolve()),
        "device": model.device.model,
        "networks": model.adaptation.networks,
        "kinds": [kind.model_dump(mode="json") for kind in model.adaptation.kinds],
        "error": model.held_out_error.model_dump(mode="json"),
        "unadapted": {
            "device": model.adaptation.device.model_dump(mode="json"),
            "runtime": model.adaptation.runtime.model_dump(mode="json"),
            "error": model.adaptation.unadapted_error.model_dump(mode="json"),
        },
        "interval_percent": model.interval_percent,
        "held_out": [
            {
                "choices": list(point.choices),
                "predicted_ms": point.predicted_ms,
                "measured_ms": point.measurement.median_ms,
            }
            for point in model.held_out
        ],
        "differs": list(foreign),
        "seconds": model.seconds,
    }


def _lines(model: LatencyModel, foreign: tuple[str, ...]) -> list[str]:
    adaptation = model.adaptation
    assert adaptation is not None
    there, here = plain_line(adaptation.device.model), plain_line(model.device.model)
    lines = [f"{'held out: predicted ms':>22} {'measured ms':>12} {'error':>8}"]
    lines += [
        f"{point.predicted_ms:22.4f} {point.measurement.median_ms:12.4f} "
        f"{100 * (point.predicted_ms / point.measurement.median_ms - 1):+7.1f}%"
        for point in model.held_out
    ]
    lines += ["", f"Times on {here} over those on {there}, with 95 % intervals:"]
    lines += [
        f"  {kind.kind:<9}  {kind.ratio:.3f}  ({kind.ratio_interval_95[0]:.3f} to "
        f"{kind.ratio_interval_95[1]:.3f}; {kind.blocks} blocks)"
        for kind in adaptation.kinds
    ]
    lines += [f"Differs: {difference}." for difference in foreign]
    return [
        *lines,
        f"On {len(model.held_out)} networks that it has not seen, the adapted model is "
        f"{_off(model.held_out_error)}; as it was, it is {_off(adaptation.unadapted_error)}.",
        "It is used instead of a measurement; a prediction's 95 % interval is "
        f"±{model.interval_percent:.1f} %.",
        "To measure this device in full instead: nasflow latency --force profile",
    ]


def _off(error: HeldOutError) -> str:
    return (
        f"{error.mape_percent:.1f} % off on average ({100 * error.share_within_5_percent:.0f} % of them "
        "within 5 %)"
    )
