"""The command line: every command, its options and its help.

Nothing heavy is imported here (no torch, TensorFlow, onnx, numpy, rich): ``--help`` must
answer at once. Commands are imported when they run.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from nasflow.commands.options import (
    Action,
    Outcome,
    RunOptions,
    Selection,
    StageName,
    program,
)
from nasflow.errors import UsageError
from nasflow.perform import perform

HELP = """Find, train and prove a small fast vision network for the device it is measured on.

Start with 'nasflow init' in an empty folder, then 'nasflow run'. Results come to lie in
artifacts/latest: report.html, result.json, network.tflite.
"""

EXIT_CODES = """Exit codes: 0 done - 1 a gate failed - 2 usage or configuration - 3 inconclusive -
4 no usable device - 5 device lost - 6 conversion - 7 integrity - 8 environment (disk, permission,
lock, data set) - 9 training diverged - 70 a mistake in nasflow - 130 SIGINT - 143 SIGTERM.
"""

STAGE_HELP = {
    "profile": "Measure every building block on the device.",
    "latency": "Learn to predict a network's latency, and how well.",
    "search": "Search for the most accurate network within the target.",
    "prune": "Keep the chosen path of every layer.",
    "finetune": "Train the found network, and a random one beside it.",
    "baseline": "Train the MobileNetV2s to compare with.",
    "convert": "Convert every network to TFLite, checked against PyTorch.",
    "verify": "Measure all networks side by side; judge and report.",
}

app = typer.Typer(
    name="nasflow",
    help=HELP,
    epilog=EXIT_CODES,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration; else pipeline.yaml, looked for upwards from here.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Set one key, as in search.epochs=20. Repeatable."),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="Where to measure: local (this computer).")
]
Seed = Annotated[str | None, typer.Option("--seed", metavar="N", help="Seed of every random choice.")]
From = Annotated[
    StageName | None,
    typer.Option(
        "--from", metavar="STAGE", help="Run this stage and all that follow from it again, fresh or not."
    ),
]
Until = Annotated[StageName | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Force = Annotated[
    list[StageName] | None,
    typer.Option("--force", metavar="STAGE", help="Run this stage again, fresh or not. Repeatable."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only list what would be done, why, and about how long it takes.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("nasflow")
        except PackageNotFoundError:
            number = "(not installed; run from its source)"
        typer.echo(f"nasflow {number}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program as a whole."""


@app.command()
def run(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    from_stage: From = None,
    until: Until = None,
    force: Force = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> Action:
    """Run every stage that is not fresh; write the report."""
    options = RunOptions(
        selection=_selection(config, assignments, device, seed),
        from_stage=from_stage and from_stage.value,
        until=until and until.value,
        force=tuple(name.value for name in force or ()),
        dry_run=dry_run,
        as_json=as_json,
    )
    return _run_action(options)


def _run_action(options: RunOptions) -> Action:
    def action() -> Outcome:
        from nasflow.commands.run import run_pipeline

        return run_pipeline(options)

    return action


def _stage_command(stage: StageName) -> Callable[..., Action]:
    def command(
        device: Device = None,
        config: Config = None,
        assignments: Set = None,
        seed: Seed = None,
        from_stage: From = None,
        force: Force = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> Action:
        return run(device, config, assignments, seed, from_stage, stage, force, dry_run, as_json)

    return command


def _stage_group(stage: StageName) -> Callable[..., Action | None]:
    """As :func:`_stage_command`, for a stage that has sub-commands of its own."""

    def command(
        context: typer.Context,
        device: Device = None,
        config: Config = None,
        assignments: Set = None,
        seed: Seed = None,
        from_stage: From = None,
        force: Force = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> Action | None:
        if context.invoked_subcommand is None:
            return run(device, config, assignments, seed, from_stage, stage, force, dry_run, as_json)
        given = [name for name, value in context.params.items() if value]
        if given:
            raise typer.BadParameter(f"options come behind '{context.invoked_subcommand}', not before it")
        return None

    return command


latency_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)

for _stage in StageName:
    _help = f"{STAGE_HELP[_stage]} Runs what it needs first."
    if _stage is StageName.LATENCY:
        latency_app.callback(help=_help)(_stage_group(_stage))
        app.add_typer(latency_app, name=_stage.value)
    else:
        app.command(name=_stage.value, help=_help)(_stage_command(_stage))


@latency_app.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to write it; else named after the device.")
    ] = None,
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Write table and model into one file, to share."""

    def action() -> Outcome:
        from nasflow.commands.latency import export_model

        return export_model(_selection(config, assignments, device, seed), file, force=force)

    return action


@latency_app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'nasflow latency export' wrote.")],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    accept_foreign: Annotated[
        bool,
        typer.Option(
            "--accept-foreign-table", help="Use it although another device measured it; results will say so."
        ),
    ] = False,
    as_json: AsJson = False,
) -> Action:
    """Use such a file in place of measuring."""

    def action() -> Outcome:
        from nasflow.commands.latency import import_model

        selection = _selection(config, assignments, device, seed)
        return import_model(selection, file, accept_foreign=accept_foreign)

    return action


@latency_app.command()
def predict(
    network: Annotated[
        Path, typer.Argument(metavar="NET.json", help="A network, as in artifacts/latest/network.json.")
    ],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> Action:
    """Predict a network's latency, layer by layer."""

    def action() -> Outcome:
        from nasflow.commands import latency

        return latency.predict(_selection(config, assignments, device, seed), network)

    return action


@latency_app.command()
def check(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    networks: Annotated[
        int, typer.Option("--networks", min=1, max=100, metavar="N", help="How many to measure again.")
    ] = 5,
    as_json: AsJson = False,
) -> Action:
    """Measure some networks again: does the model hold?

    After an update of the device, say. The exit code is 1 where it no longer holds.
    """

    def action() -> Outcome:
        from nasflow.commands import latency

        return latency.check(_selection(config, assignments, device, seed), networks=networks)

    return action


@app.command()
def status(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> Action:
    """Say which stages are fresh, and why others are not."""

    def action() -> Outcome:
        from nasflow.commands.status import show_status

        return show_status(_selection(config, assignments, device, seed))

    return action


@app.command()
def report(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> Action:
    """Write the report again from what is stored."""

    def action() -> Outcome:
        from nasflow.commands.report import rewrite_report

        return rewrite_report(_selection(config, assignments, device, seed))

    return action


@app.command()
def clean(
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also drop results of other configurations.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Free what nothing refers to any more."""

    def action() -> Outcome:
        from nasflow.commands.clean import clean_store

        return clean_store(
            _selection(config, assignments, device, seed), superseded=superseded, dry_run=dry_run
        )

    return action


@app.command()
def doctor(config: Config = None, as_json: AsJson = False) -> Action:
    """Check this computer; say how to mend what is wrong."""

    def action() -> Outcome:
        from nasflow.commands.doctor import examine

        return examine(config)

    return action


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write pipeline.yaml.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a pipeline.yaml that is there.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Write a commented pipeline.yaml, ready to run."""

    def action() -> Outcome:
        from nasflow.commands.init import write_template

        return write_template(folder, force=force)

    return action


def _selection(
    config: Path | None, assignments: list[str] | None, device: str | None, seed: str | None
) -> Selection:
    return Selection(config, tuple(assignments or ()), device, seed)


def _read(arguments: Sequence[str]) -> Action | int:
    """The command that the arguments name; an exit code where typer has already answered (``--help``)."""
    try:
        result = typer.main.get_command(app).main(
            args=list(arguments), prog_name="nasflow", standalone_mode=False
        )
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "nasflow"
        message = error.format_message().replace("Value error, ", "")
        raise UsageError(message, hint=f"Try '{command} --help'.") from error
    if callable(result):
        action: Action = result
        return action
    return int(result or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` by default); return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character that it lacks must not end a run
    as_json = "--json" in words and not {"--help", "-h", "--version"} & set(words)
    return perform(lambda: _read(words), shlex.join([*program(), *words]), as_json=as_json)
