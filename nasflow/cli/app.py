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

from nasflow.base.errors import UsageError
from nasflow.cli.options import (
    AsJson,
    Config,
    Device,
    DryRun,
    Force,
    From,
    Front,
    Offline,
    Seed,
    Set,
    Until,
    selection,
)
from nasflow.cli.perform import perform
from nasflow.cli.request import (
    Action,
    Outcome,
    RunOptions,
    StageName,
    program,
)
from nasflow.cli_latency import latency_app
from nasflow.cli_phone import Bundle, Yes, bench, devices, virtual_phone

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
    "precheck": "Try the conversion on untrained networks.",
    "search": "Search for the most accurate network within the target.",
    "prune": "Keep the chosen path of every layer.",
    "finetune": "Train the found network, and random ones beside it.",
    "baseline": "Train the MobileNetV2s to compare with.",
    "convert": "Convert every network to TFLite, checked against PyTorch.",
    "verify": "Measure all networks side by side; judge and report.",
}

_FIRST = ("run", *(stage.value for stage in StageName))


class _InOrder(typer.core.TyperGroup):
    """Lists ``run`` and the stages first, in their order, whether or not they have sub-commands."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """All names as ``--help`` shows them."""
        return sorted(self.commands, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


app = typer.Typer(
    name="nasflow",
    cls=_InOrder,
    help=HELP,
    epilog=EXIT_CODES,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    offline: Offline = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    front: Front = False,
) -> Action:
    """Run every stage that is not fresh; write the report."""
    options = RunOptions(
        selection=selection(config, assignments, device, seed, offline=offline, front=front),
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
        offline: Offline = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
        front: Front = False,
    ) -> Action:
        # The networks of a front are picked by the stage behind the search.
        until = StageName.PRUNE if front and stage is StageName.SEARCH else stage
        if front and stage is StageName.PROFILE:
            raise typer.BadParameter("no network is found by 'profile': give --front to 'search' or 'run'")
        return run(
            device, config, assignments, seed, from_stage, until, force, offline, dry_run, as_json, front
        )

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
        offline: Offline = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> Action | None:
        if context.invoked_subcommand is None:
            return run(device, config, assignments, seed, from_stage, stage, force, offline, dry_run, as_json)
        given = [name for name, value in context.params.items() if value]
        if given:
            raise typer.BadParameter(f"options come behind '{context.invoked_subcommand}', not before it")
        return None

    return command


for _stage in StageName:
    _help = f"{STAGE_HELP[_stage]} Runs what it needs first."
    if _stage is StageName.LATENCY:
        latency_app.callback(help=_help)(_stage_group(_stage))
        app.add_typer(latency_app, name=_stage.value)
    else:
        app.command(name=_stage.value, help=_help)(_stage_command(_stage))


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

        return show_status(selection(config, assignments, device, seed))

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

        return rewrite_report(selection(config, assignments, device, seed))

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
            selection(config, assignments, device, seed), superseded=superseded, dry_run=dry_run
        )

    return action


@app.command()
def doctor(
    device: Device = None,
    config: Config = None,
    offline: Offline = False,
    bundle: Bundle = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> Action:
    """Check this computer (and a phone), and say what to mend.

    With --bundle, what the phone answers to the checks and to a measurement of about a minute is written into
    a zip file, for a bug report: commands and what they print, exit codes, times. Serial numbers, names and
    addresses are replaced; CONTENTS.txt in it lists what is inside.
    """
    if yes and bundle is None:
        raise typer.BadParameter("--yes gives leave for --bundle, which is not there")

    def action() -> Outcome:
        from nasflow.commands.doctor import examine

        return examine(config, device, offline=offline, bundle=bundle, yes=yes)

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


app.command()(bench)
app.command()(devices)
app.command()(virtual_phone)


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
