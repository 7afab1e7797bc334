"""``nasflow latency export|import|predict|check``. Imported for ``--help``: keep it light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasflow.cli.options import AsJson, Config, Device, Offline, Seed, Set, selection
from nasflow.cli.request import Action, Outcome

latency_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


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

        return export_model(selection(config, assignments, device, seed), file, force=force)

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
    force: Annotated[bool, typer.Option("--force", help="Replace what was measured on this device.")] = False,
    as_json: AsJson = False,
) -> Action:
    """Use such a file in place of measuring."""

    def action() -> Outcome:
        from nasflow.commands.latency import import_model

        chosen = selection(config, assignments, device, seed)
        return import_model(chosen, file, accept_foreign=accept_foreign, force=force)

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

        return latency.predict(selection(config, assignments, device, seed), network)

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
    offline: Offline = False,
    as_json: AsJson = False,
) -> Action:
    """Measure some networks again: does the model hold?

    After an update of the device, say. The exit code is 1 where it no longer holds, 3 where the device is
    too restless to tell.
    """

    def action() -> Outcome:
        from nasflow.commands import latency

        chosen = selection(config, assignments, device, seed, offline=offline)
        return latency.check(chosen, networks=networks, as_json=as_json)

    return action
