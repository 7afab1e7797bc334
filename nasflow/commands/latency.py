"""``nasflow latency`` and its sub-commands: use and share what was learned about a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasflow.cli.options import AsJson, Config, Device, DryRun, Force, From, Offline, Seed, Set, selection
from nasflow.cli.request import Action, StageName
from nasflow.commands.latency_adapt import HELD_OUT, NETWORKS, adapt_model
from nasflow.commands.latency_check import check_latency
from nasflow.commands.latency_exchange import export_model, import_model
from nasflow.commands.latency_predict import predict_latency
from nasflow.commands.run import command as run_command

Replace = Annotated[bool, typer.Option("--force", help="Replace what was measured on this device.")]

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
    force: Replace = False,
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
    return lambda: predict_latency(chosen, network)


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
    force: Replace = False,
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
    return lambda: check_latency(chosen, file, networks=networks, as_json=as_json)


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
