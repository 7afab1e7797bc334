"""``nasflow init``: a commented ``pipeline.yaml``, ready to run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.cli.options import AsJson
from nasflow.cli.request import Action, Outcome, program
from nasflow.reference import PIPELINE_YAML, pipeline_yaml


def write_template(folder: Path, *, force: bool) -> Outcome:
    """Write ``pipeline.yaml`` into ``folder``, which is made where it is missing.

    Raises UsageError where there is one already and ``force`` is not set, MachineError where the
    folder cannot be written.
    """
    target = folder / PIPELINE_YAML
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder.", hint="Give a folder: nasflow init my-project.")
    if target.exists() and not force:
        raise UsageError(
            f"{target} already exists.",
            hint="Keep it, choose another folder, or replace it with --force.",
        )
    write_atomic(target, pipeline_yaml().encode())
    here = folder.resolve() == Path.cwd().resolve()
    step = shlex.join([*program(anywhere=not here), "run"])
    if not here:
        step = f"cd {shlex.quote(str(folder))} && {step}"
    return Outcome(
        document={"written": str(target.resolve()), "next": step},
        text=f"Wrote {target}, which explains every key.\nNext: {step}",
    )


def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write pipeline.yaml.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing pipeline.yaml.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Write a commented pipeline.yaml, ready to run."""

    return lambda: write_template(folder, force=force)
