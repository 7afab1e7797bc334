"""``nasflow latency export|import``: what was learned about a device, as a file to share."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.base.text import plain_line
from nasflow.base.version import nasflow_version
from nasflow.cli.console import message_lines
from nasflow.cli.request import Outcome, Selection
from nasflow.commands.first_look import Told
from nasflow.commands.latency_adapt import refuse_other_precision
from nasflow.commands.measured_model import measured_model, refuse_to_replace, stage_of
from nasflow.commands.project import open_project
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileOps


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
        file = read_latency_file(source, stage.space, profile.anchor(), device.info())
        refuse_other_precision(source, file.table, stage.runtime)
        foreign = differences(
            file.table, file.model, device.info(), stage.runtime, output=profile.model_output
        )
        if foreign and not accept_foreign:
            raise UsageError(
                f"{source} was measured under other conditions: {'; '.join(foreign)}.",
                hint="Measure this device (nasflow latency), or use the file with --accept-foreign-table: "
                "every result is then marked.",
            )
        if not force:
            refuse_to_replace(pipeline, "the file")
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


def _slug(text: str) -> str:
    words = "".join(character if character.isalnum() else "-" for character in text.lower())
    return "-".join(filter(None, words.split("-")))[:60] or "device"
