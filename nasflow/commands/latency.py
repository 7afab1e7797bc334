"""``nasflow latency export|import|predict|check``: use and share what was learned about a device."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from nasflow.commands.options import Outcome, Selection
from nasflow.commands.project import open_project
from nasflow.console import message_lines
from nasflow.errors import UsageError
from pipeline.events import Event
from pipeline.files import disk_faults, write_atomic
from pipeline.runner import Pipeline
from pipeline.scratch import FleetingScratch
from pipeline.stage import Context
from stages.documents import LatencyModel, LatencyTable
from stages.latency_model import FitLatency
from stages.search_space import NetConfig

MEASURE = "Measure this device first: nasflow latency."


def export_model(selection: Selection, target: Path | None, *, force: bool) -> Outcome:
    """Write table and model of the present configuration into one file that can be read anywhere."""
    from stages.latency_exchange import export

    project = open_project(selection)
    events: list[Event] = []
    pipeline = project.pipeline(events.append)
    table, model = _fresh(pipeline)
    path = target if target is not None else Path(f"latency-{_slug(model.device.model)}.json")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already.", hint="Name another file, or replace it with --force.")
    content = export(_stage(pipeline).space, table, model, at=datetime.now(UTC), nasflow_version=_version())
    write_atomic(path, content)
    return Outcome(
        {"written": str(path.resolve()), "size_bytes": len(content)},
        "\n".join(
            [
                *message_lines(events),
                f"Wrote {path}: {len(table.rows)} block latencies and {len(model.calibration)} + "
                f"{len(model.held_out)} networks of {model.device.model}.",
                f"Use it elsewhere: nasflow latency import {path}",
            ]
        ),
    )


def import_model(selection: Selection, source: Path, *, accept_foreign: bool) -> Outcome:
    """Use a file's table and model in place of measuring, where it is of this device.

    Raises UsageError where it is of another and ``accept_foreign`` is not set, or of another space.
    """
    from stages.latency_exchange import differences, read_latency_file

    project = open_project(selection)
    file = read_latency_file(source)
    events: list[Event] = []
    with closing(project.open_device()) as device:
        pipeline = project.pipeline(events.append, device)
        stage = _stage(pipeline)
        if file.space != stage.space:
            raise UsageError(
                f"{source} was measured for space {file.space.name} at {file.space.resolution} pixels; "
                f"this configuration's is {stage.space.name} at {stage.space.resolution}, and not the same.",
                hint="Choose that space, or measure this one: nasflow latency.",
            )
        foreign = differences(file.table, file.model, device.info(), stage.runtime)
        if foreign and not accept_foreign:
            raise UsageError(
                f"{source} was measured elsewhere: {'; '.join(foreign)}.",
                hint="Measure this device (nasflow latency), or use it all the same, marked in every result: "
                "--accept-foreign-table.",
            )
        mark = {"foreign": foreign}
        pipeline.adopt(
            {
                "profile": file.table.model_copy(update=mark),
                "latency": file.model.model_copy(update=mark),
            }
        )
    lines = [
        *message_lines(events),
        f"{source} is used in place of measuring: {len(file.model.block_ms)} blocks of "
        f"{file.model.device.model}, held-out error {file.model.held_out_error.mape_percent:.1f} %.",
    ]
    if foreign:
        lines.append(f"It is a foreign table ({'; '.join(foreign)}): every result will say so.")
    return Outcome(
        {"imported": str(source.resolve()), "blocks": len(file.model.block_ms), "foreign": list(foreign)},
        "\n".join(lines),
    )


def predict(selection: Selection, network: Path) -> Outcome:
    """A network's latency, layer by layer, with its interval. Raises UsageError."""
    project = open_project(selection)
    events: list[Event] = []
    _, model = _fresh(project.pipeline(events.append))
    net = read_network(network)
    latencies = [model.block_latency_ms(block) for block in net.blocks]
    prediction = model.predict(net)
    rows = [
        {
            "block": block.key,
            "name": block.short_name,
            "layer": net.layers[place] if net.layers else None,
            "implementation": model.implementations.get(block.key, "native"),
            "ms": ms,
            "share": ms / prediction.ms,
        }
        for place, (block, ms) in enumerate(zip(net.blocks, latencies, strict=True))
    ]
    document = {
        **prediction.model_dump(),
        "interval_percent": model.interval_percent,
        "overhead_ms": model.overhead_ms,
        "device": model.device.model,
        "runtime": model.runtime.model_dump(),
        "foreign": list(model.foreign),
        "blocks": rows,
    }
    width = max(len(block.key) for block in net.blocks)
    lines = [
        f"{row['block']:<{width}}  {row['name']:<14} {ms:9.4f} ms  {100 * ms / prediction.ms:5.1f} %"
        + (f"  ({row['implementation']})" if row["implementation"] != "native" else "")
        for row, ms in zip(rows, latencies, strict=True)
    ]
    overhead = f"{'every invocation':<{width}}  {'':<14} {model.overhead_ms:9.4f} ms"
    lines += [
        overhead,
        "",
        f"{prediction.ms:.4g} ms on {model.device.model}, {model.runtime.describe()}; 95 % interval "
        f"{prediction.low_ms:.4g} to {prediction.high_ms:.4g} ms.",
    ]
    if model.foreign:
        lines.append(f"By a foreign table: {'; '.join(model.foreign)}.")
    return Outcome(document, "\n".join([*message_lines(events), *lines]))


def check(selection: Selection, *, networks: int) -> Outcome:
    """Measure some networks again; exit code 1 where the model no longer holds."""
    from stages.latency_check import check_model, verdict
    from stages.latency_exchange import differences

    project = open_project(selection)
    events: list[Event] = []
    with closing(project.open_device()) as device:
        pipeline = project.pipeline(events.append, device)
        stage = _stage(pipeline)
        table, model = _latest(pipeline)
        changed = differences(table, model, device.info(), stage.runtime)
        context = Context("latency", "", pipeline.store, FleetingScratch(), events.append)
        outcome = check_model(
            model,
            stage.space,
            device,
            stage.config,
            stage.runtime,
            context,
            networks=networks,
            seed=stage.seed,
        )
    lines = [f"{'predicted ms':>13} {'then ms':>10} {'now ms':>10} {'off':>8}"]
    lines += [
        f"{n.predicted_ms:13.4f} {n.measured_then_ms:10.4f} {n.measured_now_ms:10.4f} "
        f"{n.error_percent:+7.1f}%{'' if n.holds else '  !'}"
        for n in outcome.networks
    ]
    lines += ["", *(f"Changed since: {change}." for change in changed), verdict(outcome)]
    if not outcome.holds:
        lines.append("Measure the device anew: nasflow latency --force profile.")
    document = {**outcome.model_dump(mode="json"), "changed": list(changed)}
    return Outcome(document, "\n".join([*message_lines(events), *lines]), 0 if outcome.holds else 1)


def read_network(path: Path) -> NetConfig:
    """A network's architecture from a JSON file. Raises UsageError, EnvironmentFault."""
    with disk_faults(path, "read"):
        data = path.read_bytes()
    try:
        return NetConfig.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path} is no network: {place}: {first['msg'].removeprefix('Value error, ')}.",
            hint="A network is what artifacts/latest/network.json holds (NetConfig in artifacts/README.md).",
            raw=str(error),
        ) from error


def _fresh(pipeline: Pipeline) -> tuple[LatencyTable, LatencyModel]:
    """Table and model of the present configuration and device. Raises UsageError."""
    for status in pipeline.status(until="latency"):
        if not status.fresh:
            if status.problem is not None:
                raise status.problem
            raise UsageError(
                f"There is no latency model of this configuration yet (stage {status.name}: "
                f"{status.why.rstrip('.')}).",
                hint=MEASURE,
            )
    return _latest(pipeline)


def _latest(pipeline: Pipeline) -> tuple[LatencyTable, LatencyModel]:
    """Table and model as they were measured last, also where the device has changed since."""
    profile, latency = (status.record for status in pipeline.status(until="latency"))
    if profile is None or latency is None:
        raise UsageError("This device has not been measured yet.", hint=MEASURE)
    return pipeline.store.document(profile, LatencyTable), pipeline.store.document(latency, LatencyModel)


def _stage(pipeline: Pipeline) -> FitLatency:
    return next(stage for stage in pipeline.stages if isinstance(stage, FitLatency))


def _slug(text: str) -> str:
    words = "".join(character if character.isalnum() else "-" for character in text.lower())
    return "-".join(filter(None, words.split("-")))[:60] or "device"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nasflow")
    except PackageNotFoundError:
        return "not installed"
