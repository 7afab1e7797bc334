"""``nasflow virtual-phone``: a phone that is none, served until somebody stops it."""

from __future__ import annotations

import shlex
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from android_bench.virtual_phone.faults import read_plan
from android_bench.virtual_phone.phone import VirtualPhone, serve
from nasflow.base.errors import RunInterruptedError
from nasflow.cli.console import write
from nasflow.cli.options import AsJson
from nasflow.cli.request import Action, Outcome, program
from pipeline.events import Message
from pipeline.reporters.reporters import JsonLinesReporter

_HONEST = (
    "This is not a real phone: models run on this computer's processor, and every latency is that of this "
    "computer. Use it for tests, not to find out how fast a network is on a phone."
)


def serve_virtual_phone(
    *,
    port: int,
    folder: Path | None,
    faults: Path | None,
    as_json: bool,
    services: int = 1,
    stop: threading.Event | None = None,
) -> Outcome:
    """Serve until a signal comes, or ``stop`` is set.

    Raises RunInterruptedError, UsageError, MachineError.
    """
    if faults is not None:
        read_plan(faults)  # the phone itself would wait for a file that is missing
    served = ""

    def tell(phone: VirtualPhone) -> None:
        nonlocal served
        served = phone.address
        asked = [word for address in phone.addresses for word in ("--address", address)]
        again = shlex.join([*program(), "devices", *asked])
        texts = (
            f"The simulated phone listens on {' and '.join(phone.addresses)}, on this computer only.",
            "Commands run in a shell that is confined to its folder (bubblewrap).",
            _HONEST,
            f"Try next, in another terminal: {again}",
            "Ctrl-C stops it.",
        )
        if as_json:
            with closing(JsonLinesReporter(sys.stderr)) as reporter:
                for text in texts:
                    reporter(Message(stage="", text=text))
        else:
            write(sys.stderr, "\n".join(texts))

    try:
        serve(
            port=port,
            folder=folder,
            control_file=faults,
            services=services,
            on_ready=tell,
            stop=stop,
        )
    except RunInterruptedError as stopped:
        kept = f" Its storage is in {folder}." if folder is not None else ""
        raise RunInterruptedError(
            "The simulated phone was switched off.",
            signal_number=stopped.signal_number,
            hint=f"Start it again with the same command.{kept}",
        ) from stopped
    return Outcome({"served": served}, f"The simulated phone at {served} was switched off.")


def command(
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, metavar="PORT", help="Port on 127.0.0.1; 0: any free port."),
    ] = 6555,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Folder for its storage and keys; default: temporary."),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(
            "--faults", metavar="FILE", help="Faults to simulate, as JSON; read again when the file changes."
        ),
    ] = None,
    services: Annotated[
        int,
        typer.Option(
            "--services",
            min=1,
            max=4,
            metavar="N",
            help="Number of ports, to simulate a phone that is announced twice.",
        ),
    ] = 1,
    as_json: AsJson = False,
) -> Action:
    """Run a simulated Android phone.

    It uses the protocol of a real phone, on this computer only, until Ctrl-C. Models run on this computer's
    processor: the latencies are those of this computer.
    """

    return lambda: serve_virtual_phone(
        port=port, folder=folder, faults=faults, services=services, as_json=as_json
    )
