"""``nasflow latency export|import|adapt|predict|check``: use and share what was learned about a device."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from nasflow.base.errors import InconclusiveError, UsageError
from nasflow.base.files import disk_faults, write_atomic
from nasflow.base.text import plain_line
from nasflow.base.version import nasflow_version
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson, Config, Device, DryRun, Force, From, Offline, Seed, Set, selection
from nasflow.cli.request import Action, Outcome, Selection, StageName
from nasflow.cli.screen import screen
from nasflow.commands.first_look import Told
from nasflow.commands.latency_adapt import HELD_OUT, NETWORKS, adapt_model, refuse_other_precision
from nasflow.commands.measured_model import latest_model, measured_model, stage_of
from nasflow.commands.project import open_project
from nasflow.commands.run import command as run_command
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileOps
from stages.space.search_space import NetConfig

EXIT_CODES = {"holds": 0, "fails": 1, "inconclusive": InconclusiveError.exit_code}


def export_model(selection: Selection, target: Path | None, *, force: bool) -> Outcome:
    """Write table and model of the present configuration into one file that can be read anywhere."""
    from stages.latency.exchange import export

    project = open_project(selection)
    told = Told()
    pipeline = project.pipeline(told)
    table, model = measured_model(pipeline)
    if model.adaptation is not None:
        raise UsageError(
            f"This latency model was adapted from one of {plain_line(model.adaptation.device.model)} by "
            f"{model.adaptation.networks} networks; a file holds what was measured of one device.",
            hint="Share the file that it was adapted from, or measure this device: nasflow latency --force "
            "profile.",
        )
    path = target if target is not None else Path(f"latency-{_slug(model.device.model)}.json")
    if path.exists() and not force:
        raise UsageError(f"{path} already exists.", hint="Choose another file, or replace it with --force.")
    content = export(
        stage_of(pipeline, FitLatency).space,
        table,
        model,
        at=datetime.now(UTC),
        nasflow_version=nasflow_version(),
    )
    write_atomic(path, content)
    return Outcome(
        {"written": str(path.resolve()), "size_bytes": len(content)},
        "\n".join(
            [
                *message_lines(told.events),
                f"Wrote {path}: {len(table.rows)} block latencies and {len(model.calibration)} + "
                f"{len(model.held_out)} networks of {plain_line(model.device.model)}.",
                f"Use it elsewhere: nasflow latency import {path}",
            ]
        ),
    )


def import_model(selection: Selection, source: Path, *, accept_foreign: bool, force: bool) -> Outcome:
    """Use a file's table and model in place of measuring, where it is of this device.

    Raises UsageError where it is of another device and ``accept_foreign`` is not set, of another space, or
    where this device has been measured already and ``force`` is not set.
    """
    from stages.latency.exchange import differences, read_latency_file

    project = open_project(selection)
    told = Told()
    with closing(project.open_device()) as device:
        pipeline = project.pipeline(told, device)
        stage, profile = stage_of(pipeline, FitLatency), stage_of(pipeline, ProfileOps)
        file = read_latency_file(source, stage.space, profile.anchor())
        refuse_other_precision(source, file.table, stage.runtime)
        foreign = tuple(
            plain_line(difference)
            for difference in differences(
                file.table, file.model, device.info(), stage.runtime, output=profile.model_output
            )
        )
        if foreign and not accept_foreign:
            raise UsageError(
                f"{source} was measured under other conditions: {'; '.join(foreign)}.",
                hint="Measure this device (nasflow latency), or use the file with --accept-foreign-table: "
                "every result is then marked.",
            )
        table = pipeline.status(until="latency")[0]
        if table.fresh and table.record is not None and table.record.seconds > 0 and not force:
            raise UsageError(
                "This device has been measured already with this configuration; the file would replace that "
                "measurement.",
                hint="Keep what was measured, or replace it with --force.",
            )
        mark = {"foreign": foreign}
        pipeline.adopt(
            {
                "profile": file.table.model_copy(update=mark),
                "latency": file.model.model_copy(update=mark),
            }
        )
    lines = [
        *message_lines(told.events),
        f"{source} is used instead of a measurement: {len(file.model.block_ms)} blocks of "
        f"{plain_line(file.model.device.model)}, held-out error "
        f"{file.model.held_out_error.mape_percent:.1f} %.",
        "To measure again instead: nasflow latency --force profile",
    ]
    if foreign:
        lines.insert(-1, f"It is a foreign table ({'; '.join(foreign)}): every result is marked.")
    return Outcome(
        {"imported": str(source.resolve()), "blocks": len(file.model.block_ms), "foreign": list(foreign)},
        "\n".join(lines),
    )


def predict(selection: Selection, network: Path) -> Outcome:
    """A network's latency, layer by layer, with its interval. Raises UsageError."""
    project = open_project(selection)
    told = Told()
    _, model = measured_model(project.pipeline(told))
    net = read_network(network)
    latencies = [model.block_latency_ms(block) for block in net.blocks]
    prediction = model.predict(net)
    device = plain_line(model.device.model)
    ways = [model.implementations.get(block.key, "native") for block in net.blocks]
    document = {
        **prediction.model_dump(),
        "interval_percent": model.interval_percent,
        "overhead_ms": model.overhead_ms,
        "device": model.device.model,
        "runtime": model.runtime.model_dump(),
        "foreign": list(model.foreign),
        "blocks": [
            {
                "block": block.key,
                "name": block.short_name,
                "layer": net.layers[index] if net.layers else None,
                "implementation": way,
                "ms": ms,
                "share": ms / prediction.ms,
            }
            for index, (block, way, ms) in enumerate(zip(net.blocks, ways, latencies, strict=True))
        ],
    }
    width = max(len(block.key) for block in net.blocks)
    names = max(14, *(len(block.short_name) for block in net.blocks))
    lines = [
        f"{block.key:<{width}}  {block.short_name:<{names}} {ms:9.4f} ms  {100 * ms / prediction.ms:5.1f} %"
        + (f"  ({way})" if way != "native" else "")
        for block, way, ms in zip(net.blocks, ways, latencies, strict=True)
    ]
    lines += [
        f"{'every invocation':<{width}}  {'':<{names}} {model.overhead_ms:9.4f} ms",
        "",
        f"{prediction.ms:.4g} ms on {device}, {model.runtime.describe()}; 95 % interval "
        f"{prediction.low_ms:.4g} to {prediction.high_ms:.4g} ms.",
    ]
    if model.foreign:
        lines.append(f"Predicted with a foreign table: {'; '.join(model.foreign)}.")
    return Outcome(document, "\n".join([*message_lines(told.events), *lines]))


def check(selection: Selection, source: Path | None, *, networks: int, as_json: bool) -> Outcome:
    """Measure some networks again; exit code 1 where the model no longer holds, 3 where none can tell.

    ``source``: the file of a model that was measured on another device, say; None: this device's own.
    """
    from stages.latency.check import check_model, verdict
    from stages.latency.exchange import differences, read_latency_file

    project = open_project(selection)
    with closing(project.open_device()) as device, closing(screen(as_json=as_json)) as reporter:
        pipeline = project.pipeline(reporter, device)
        stage = stage_of(pipeline, FitLatency)
        profile = stage_of(pipeline, ProfileOps)
        if source is None:
            table, model = latest_model(pipeline)
        else:
            file = read_latency_file(source, stage.space, profile.anchor())
            table, model = file.table, file.model
            refuse_other_precision(source, table, stage.runtime)
        output = profile.model_output
        changed = [
            plain_line(difference)
            for difference in differences(table, model, device.info(), stage.runtime, output=output)
        ]
        context = Context("latency", "", pipeline.store, FleetingScratch(), reporter)
        with pipeline.store.lock():
            found = check_model(
                model,
                stage.space,
                device,
                stage.config,
                stage.runtime,
                context,
                networks=networks,
                seed=stage.seed,
            )
    lines = [f"{'predicted ms':>13} {'then ms':>10} {'now ms':>10} {'change':>8}"]
    lines += [
        f"{n.predicted_ms:13.4f} {n.measured_then_ms:10.4f} {n.measured_now_ms:10.4f} "
        f"{n.change_percent:+7.1f}%"
        for n in found.networks
    ]
    since = "Changed since" if source is None else "Differs"
    lines += ["", *(f"{since}: {change}." for change in changed), verdict(found)]
    if found.outcome == "fails" and source is not None:
        lines.append(f"Adapt it to this device by a few networks: nasflow latency adapt {source}")
    elif found.outcome == "fails":
        lines.append("Measure the device again: nasflow latency --force profile")
    document = {**found.model_dump(mode="json"), "changed": changed}
    return Outcome(document, "\n".join(lines), EXIT_CODES[found.outcome])


def read_network(path: Path) -> NetConfig:
    """A network's architecture from a JSON file. Raises UsageError, MachineError."""
    with disk_faults(path, "read"):
        data = path.read_bytes()
    try:
        return NetConfig.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path} is not a network: {location}: {first['msg'].removeprefix('Value error, ')}.",
            hint="Use a file such as artifacts/latest/network.json (NetConfig in artifacts/README.md).",
            raw=str(error),
        ) from error


def _slug(text: str) -> str:
    words = "".join(character if character.isalnum() else "-" for character in text.lower())
    return "-".join(filter(None, words.split("-")))[:60] or "device"


group = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode=None)


@group.command(name="export")
def export_command(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write; default: named after the device.")
    ] = None,
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Write the latency table and model into one file, to share."""

    chosen = selection(config, assignments, device, seed)
    return lambda: export_model(chosen, file, force=force)


@group.command(name="import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that 'nasflow latency export' wrote.")],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    accept_foreign: Annotated[
        bool,
        typer.Option(
            "--accept-foreign-table", help="Use it although another device was measured; results are marked."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what was measured on this device.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Use such a file instead of a measurement."""

    chosen = selection(config, assignments, device, seed)
    return lambda: import_model(chosen, file, accept_foreign=accept_foreign, force=force)


@group.command(name="predict")
def predict_command(
    network: Annotated[
        Path, typer.Argument(metavar="NET.json", help="A network, such as artifacts/latest/network.json.")
    ],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> Action:
    """Predict a network's latency, layer by layer."""

    chosen = selection(config, assignments, device, seed)
    return lambda: predict(chosen, network)


@group.command(name="adapt")
def adapt_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File that 'nasflow latency export' wrote elsewhere.")
    ],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    networks: Annotated[
        int,
        typer.Option(
            "--networks",
            min=3,
            max=1000,
            metavar="N",
            help="Number of networks to measure here, chosen to tell most about all others.",
        ),
    ] = NETWORKS,
    held_out: Annotated[
        int,
        typer.Option(
            "--held-out",
            min=3,
            max=1000,
            metavar="N",
            help="Number of other networks to measure, on which the error is stated.",
        ),
    ] = HELD_OUT,
    force: Annotated[bool, typer.Option("--force", help="Replace what was measured on this device.")] = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> Action:
    """Adapt another device's latency model to this one by a few measurements.

    Minutes less than a full measurement, and less exact: its error on networks that it has not seen is
    told, beside that of the model as it was.
    """

    chosen = selection(config, assignments, device, seed, offline=offline)
    return lambda: adapt_model(
        chosen, file, networks=networks, held_out=held_out, force=force, as_json=as_json
    )


@group.command(name="check")
def check_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Check the model in a file that 'nasflow latency export' wrote on another device; "
            "default: the model of this one.",
        ),
    ] = None,
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    networks: Annotated[
        int,
        typer.Option("--networks", min=1, max=100, metavar="N", help="Number of networks to measure again."),
    ] = 5,
    offline: Offline = False,
    as_json: AsJson = False,
) -> Action:
    """Measure some networks again, to check the latency model.

    Use it after an update of the device, or to see whether one phone's model holds on another. The exit code
    is 1 if the model does not hold, 3 if the timings vary too much for a conclusion.
    """

    chosen = selection(config, assignments, device, seed, offline=offline)
    return lambda: check(chosen, file, networks=networks, as_json=as_json)


@group.callback()
def command(
    context: typer.Context,
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    from_stage: From = None,
    force: Force = None,
    offline: Offline = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> Action | None:
    """Run the stage, unless a sub-command is named."""
    if context.invoked_subcommand is None:
        return run_command(
            device, config, assignments, seed, from_stage, StageName.LATENCY, force, offline, dry_run, as_json
        )
    given = [name for name, value in context.params.items() if value]
    if given:
        raise typer.BadParameter(f"put the options after '{context.invoked_subcommand}', not before it")
    return None
