"""``nasflow init``: a commented ``pipeline.yaml``, ready to run."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.base.processes import usable_cores
from nasflow.base.text import rough_duration
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson
from nasflow.cli.request import Action, Outcome, program
from nasflow.config import PipelineConfig
from nasflow.reference import PIPELINE_YAML, pipeline_yaml
from stages.data.names import shown

if TYPE_CHECKING:
    from nasflow.own_images.first_settings import FirstSettings, Seen
    from stages.data.catalogue import Catalogue

_WIDTH = 112


def write_template(folder: Path, *, force: bool) -> Outcome:
    """Write ``pipeline.yaml`` into ``folder``, which is made where it is missing.

    Raises UsageError where there is one already and ``force`` is not set, MachineError where the
    folder cannot be written.
    """
    target = _target(folder, force=force)
    write_atomic(target, pipeline_yaml().encode())
    step = _next_step(folder)
    return Outcome(
        document={"written": str(target.resolve()), "next": step},
        text=f"Wrote {target}, which explains every key.\nNext: {step}",
    )


def write_for_images(folder: Path, images: Path, *, force: bool) -> Outcome:
    """Write a ``pipeline.yaml`` whose values fit a folder or table of images.

    Raises UsageError where they cannot be learned from, or where the file would lie in their folder; and as
    :func:`write_template`. DatasetMissingError where they are not there.
    """
    from nasflow.commands.first_look import Telling, Told
    from nasflow.own_images.findings import data_root
    from nasflow.own_images.first_settings import first_settings
    from nasflow.own_images.keep_out import check_outside
    from nasflow.own_images.warnings import image_warnings
    from stages.data.catalogue import catalogue_of
    from stages.data.config import DataConfig

    target = _target(folder, force=force)
    source = images.expanduser().resolve()
    hint = f"Name another folder for it: nasflow init --data {shlex.quote(str(images))} ../my-project"
    data = DataConfig(source="folder", path=str(source))
    check_outside(target, data_root(data), hint=hint)
    written = _as_written(source, folder.resolve())
    if written != written.encode("utf-8", "replace").decode():
        raise UsageError(
            f"pipeline.yaml cannot name {shown(written)}: bytes in it are no UTF-8.",
            hint="Rename the folder, or make a link to it.",
        )
    told = Told()
    telling = Telling(data, told)
    catalogue = catalogue_of(data, telling.reading, telling.comparing)
    check_outside(target, data_root(data), (i.path for i in catalogue.inventory.images), hint=hint)
    seen = look(catalogue)
    chosen = first_settings(seen)
    values = {
        **chosen.values,
        "data": {**chosen.values["data"], "source": "folder", "path": written},
    }
    saw = _saw(seen, catalogue)
    remarks = list(_remarks(shown(str(images)), saw, chosen))
    write_atomic(target, pipeline_yaml(PipelineConfig.model_validate(values), remarks).encode())
    step = _next_step(folder)
    warnings = list(image_warnings(catalogue))
    document: dict[str, Any] = {
        "written": str(target.resolve()),
        "next": step,
        "seen": vars(seen),
        "values": values,
        "estimate_seconds": round(chosen.seconds),
        "reasons": [{"setting": setting, "reason": reason} for setting, reason in chosen.reasons],
        "warnings": warnings,
    }
    lines = [
        *message_lines(told.events),
        *(f"warning: {text}" for text in warnings),
        f"{saw}.",
        "",
        *_wrapped(chosen),
        "",
        f"Wrote {target}, which explains every key; about {rough_duration(chosen.seconds)} on this computer.",
        f"Next: {step}",
    ]
    return Outcome(document, "\n".join(lines))


def look(catalogue: Catalogue) -> Seen:
    """What the first settings are chosen by."""
    import numpy as np

    from nasflow.own_images.first_settings import Seen, pretrained_at_hand

    labels_N, train_N = catalogue.labels(), catalogue.numbers("train")
    counts_K = np.bincount(labels_N[train_N], minlength=len(catalogue.class_names))
    present = counts_K[counts_K > 0]
    return Seen(
        images=len(catalogue.splitting.parts),
        classes=len(catalogue.class_names),
        shorter_side=catalogue.median_shorter_side(),
        train_images=len(train_N),
        choice_images=len(catalogue.numbers("choice")),
        test_images=len(catalogue.numbers("test")),
        imbalance=float(present.max() / present.min()) if len(present) else 1.0,
        cores=usable_cores(),
        pretrained=pretrained_at_hand(),
        own_parts=any(image.part in ("validation", "test") for image in catalogue.inventory.listing.images),
    )


def _target(folder: Path, *, force: bool) -> Path:
    target = folder / PIPELINE_YAML
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder.", hint="Give a folder: nasflow init my-project.")
    if target.exists() and not force:
        raise UsageError(
            f"{target} already exists.",
            hint="Keep it, choose another folder, or replace it with --force.",
        )
    return target


def _next_step(folder: Path) -> str:
    here = folder.resolve() == Path.cwd().resolve()
    step = shlex.join([*program(anywhere=not here), "run"])
    return step if here else f"cd {shlex.quote(str(folder))} && {step}"


def _as_written(source: Path, folder: Path) -> str:
    """The images' path for a ``pipeline.yaml`` in ``folder``: relative where they lie below or beside it."""
    if source.is_relative_to(folder):
        return source.relative_to(folder).as_posix()
    if source.is_relative_to(folder.parent) and folder.parent != Path(folder.anchor):
        return Path(os.path.relpath(source, folder)).as_posix()
    return str(source)


def _saw(seen: Seen, catalogue: Catalogue) -> str:
    parts, layout = catalogue.splitting, catalogue.inventory.listing.layout
    choice = "architecture and choice together" if parts.shared else "choice"
    counts = f"{seen.train_images:,} to train, "
    if not parts.shared:
        counts += f"{len(parts.keys('architecture')):,} for the architecture, "
    counts += f"{len(parts.keys('choice')):,} for {choice}, {seen.test_images:,} to test"
    return (
        f"{seen.images:,} images in {seen.classes} classes ({shown(layout)}), median shorter side "
        f"{seen.shorter_side:,} pixels: {counts}"
    )


def _wrapped(chosen: FirstSettings) -> Iterator[str]:
    for setting, reason in chosen.reasons:
        yield from textwrap.wrap(
            f"{setting}: {reason}.", _WIDTH - 4, subsequent_indent="    ", break_on_hyphens=False
        )


def _remarks(images: str, saw: str, chosen: FirstSettings) -> Iterator[str]:
    """The head of the file: what was seen, and why each value was chosen."""
    yield from textwrap.wrap(f"Written for the images in {images}.", _WIDTH, break_on_hyphens=False)
    yield from textwrap.wrap(f"{saw}.", _WIDTH)
    yield ""
    yield from _wrapped(chosen)


def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write pipeline.yaml.")] = Path(),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Images of your own, a folder for each class, or a table (CSV, TSV, JSONL): the settings "
            "then fit their number and size.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing pipeline.yaml.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Write a commented pipeline.yaml, ready to run."""

    if data is not None:
        return lambda: write_for_images(folder, data, force=force)
    return lambda: write_template(folder, force=force)
