"""``nasflow devices``, ``bench`` and ``virtual-phone``. Imported for ``--help``: keep it light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasflow.cli.options import AsJson, Config, Device, Offline, Set, selection
from nasflow.cli.request import Action, Outcome

Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle", metavar="FILE", help="Write all that the phone answers into this zip file; asks before."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="You agree to what --bundle records; do not ask.")]


def devices(
    addresses: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="HOST:PORT", help="Ask a phone on the network too. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """List the phones that are connected.

    On USB, at the addresses given, and what a running adb server knows. $ANDROID_SERIAL counts as an address
    where it is HOST:PORT. The exit code is 0 with none connected, too.
    """

    def action() -> Outcome:
        from nasflow.commands.devices import list_devices

        return list_devices(tuple(addresses or ()))

    return action


def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Files that TFLite can run.")],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="CPU threads.")] = None,
    cpu: Annotated[
        str | None,
        typer.Option(
            "--cpu", metavar="CORES", help="A phone's cores: auto, all, big, little, prime, or a mask."
        ),
    ] = None,
    delegate: Annotated[
        str | None, typer.Option("--delegate", metavar="WHAT", help="What computes: cpu, or a phone's gpu.")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=1000, metavar="N", help="Every model once a round.")
    ] = 5,
    offline: Offline = False,
    as_json: AsJson = False,
) -> Action:
    """Time any models on a device, side by side."""

    def action() -> Outcome:
        from nasflow.commands.bench import BenchOptions
        from nasflow.commands.bench import bench as time_models

        chosen = selection(config, assignments, device, None, offline=offline)
        options = BenchOptions(tuple(models), threads, cpu, delegate, rounds)
        return time_models(chosen, options, as_json=as_json)

    return action


def virtual_phone(
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, metavar="PORT", help="Of 127.0.0.1; 0 takes any that is free."
        ),
    ] = 6555,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Keeps its storage and keys; else they are temporary."),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(
            "--faults", metavar="FILE", help="What goes wrong, as JSON; read again whenever it changes."
        ),
    ] = None,
    services: Annotated[
        int,
        typer.Option(
            "--services",
            min=1,
            max=4,
            metavar="N",
            help="Listen at so many ports, as a phone that is announced twice.",
        ),
    ] = 1,
    as_json: AsJson = False,
) -> Action:
    """Serve a phone that is none, to try things on.

    It speaks the protocol of a real one, on this computer alone. It runs until Ctrl-C. Its models really run,
    on this computer's processor: its latencies are this computer's.
    """

    def action() -> Outcome:
        from nasflow.commands.virtual_phone import serve_virtual_phone

        return serve_virtual_phone(
            port=port, folder=folder, faults=faults, services=services, as_json=as_json
        )

    return action
