"""The command line: which commands there are. Each has a module in :mod:`nasflow.commands`.

Nothing heavy is imported here (no torch, TensorFlow, onnx, numpy, rich): ``--help`` must
answer at once. A command's module is imported when it is named.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from nasflow.base.errors import UsageError
from nasflow.base.version import nasflow_version
from nasflow.cli.perform import perform
from nasflow.cli.request import STAGE_NAMES, Action, StageName, program

HELP = """Find, train and verify a small, fast vision network for the device that it is measured on.

Start with 'nasflow init' in an empty folder, then 'nasflow run'. Results are written to
artifacts/latest: report.html, result.json, network.tflite. 'nasflow ship' packs them for apps.
"""

EXIT_CODES = """Exit codes: 0 done - 1 a gate failed - 2 usage or configuration - 3 inconclusive -
4 no usable device - 5 device lost - 6 conversion - 7 integrity - 8 environment (disk, permission,
lock, data set) - 9 training diverged - 70 unexpected error - 130 SIGINT - 143 SIGTERM.
"""

_STAGE_HELP = {
    "profile": "Measure every building block on the device.",
    "latency": "Fit a model that predicts latency, and measure its error.",
    "precheck": "Try the conversion on untrained networks.",
    "search": "Search for the most accurate network within the target.",
    "prune": "Keep the chosen path of every layer.",
    "finetune": "Train the found network, and random networks for comparison.",
    "baseline": "Train the MobileNetV2 baselines for comparison.",
    "convert": "Convert every network to TFLite, checked against PyTorch.",
    "verify": "Measure all networks side by side; write the report.",
}
SUMMARIES: Mapping[str, str] = {
    "run": "Run every stage that is not up to date; write the report.",
    **{stage: f"{_STAGE_HELP[stage]} First runs the stages that it needs." for stage in STAGE_NAMES},
    "verify": f"{_STAGE_HELP['verify']} With a model file: is it as fast as it should be?",
    "bench": "Time any models on a device, side by side.",
    "clean": "Delete unreferenced files.",
    "compare": "Set finished runs side by side.",
    "data": "Check images of your own, and write down their parts.",
    "devices": "List the phones that are connected.",
    "doctor": "Check this computer (and a phone), and suggest fixes.",
    "history": "Show gates over time, and draw them.",
    "init": "Write a commented pipeline.yaml, ready to run.",
    "report": "Write the report again from stored results.",
    "ship": "Pack a finished run's network for apps.",
    "status": "Show which stages are up to date, and why others are not.",
    "virtual-phone": "Run a simulated Android phone.",
}
"""Every command in the order of ``--help``, with its first line there. A command's own module
(:mod:`nasflow.commands`) is imported when it runs, or shows its own help."""

_SETTINGS: Mapping[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class _Commands(typer.core.TyperGroup):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """All names as ``--help`` shows them."""
        return list(SUMMARIES)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> typer.core.TyperCommand | None:  # type: ignore[override]
        """The command of that name; None: there is none."""
        return _load(cmd_name) if cmd_name in SUMMARIES else None

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """The list of commands, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def _load(name: str) -> Any:
    stage = StageName(name) if name in STAGE_NAMES else None
    module = import_module(f"nasflow.commands.{_module_of(name)}")
    single = typer.Typer(**_SETTINGS)
    if hasattr(module, "group"):
        module.group.info.context_settings = _SETTINGS["context_settings"]
        module.group.info.help = SUMMARIES[name]
        command = typer.main.get_command(module.group)
    else:
        function = module.stage_command(stage) if stage is not None else module.command
        single.command(name=name, help=SUMMARIES[name] if stage is not None else None)(function)
        command = typer.main.get_command(single)
    command.name = name
    return command


def _module_of(name: str) -> str:
    own = name if name not in STAGE_NAMES or name in (StageName.LATENCY, StageName.VERIFY) else "run"
    return own.replace("-", "_")


app = typer.Typer(
    name="nasflow", cls=_Commands, help=HELP, epilog=EXIT_CODES, **{**_SETTINGS, "add_completion": True}
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nasflow {nasflow_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program as a whole."""


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
    answered_by_typer = {"--help", "-h"} & set(words) or words[0] == "--version"  # 'ship' has one of its own
    as_json = "--json" in words and not answered_by_typer
    return perform(lambda: _read(words), shlex.join([*program(), *words]), as_json=as_json)
