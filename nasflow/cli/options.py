"""Options that several commands have. Imported for ``--help``: keep it light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasflow.cli.request import Selection, StageName

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration; default: pipeline.yaml in this folder or one above it.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Set one key, as in search.epochs=20. Repeatable."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where to measure: local (this computer), onnxruntime (this computer, with ONNX Runtime), cuda "
        "or cuda:N (its GPU), android, android:SERIAL or android:HOST:PORT.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="Search once, choose a network for each of several devices, and measure every network on every "
        "device: local,local@threads=2,onnxruntime (settings of the section runtime behind @).",
    ),
]
Train = Annotated[
    bool,
    typer.Option(
        "--train",
        help="With --devices: train, convert and verify each device's network on its device, too, into "
        "artifacts/devices/NAME.",
    ),
]
Seed = Annotated[str | None, typer.Option("--seed", metavar="N", help="Seed of every random choice.")]
From = Annotated[
    StageName | None,
    typer.Option(
        "--from", metavar="STAGE", help="Run this stage and all that depend on it again, even if up to date."
    ),
]
Until = Annotated[StageName | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Force = Annotated[
    list[StageName] | None,
    typer.Option(
        "--force",
        metavar="STAGE",
        help="Run this stage again from its start, even if up to date; the work of an unfinished run is "
        "discarded. Repeatable.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Do not download anything (images, benchmark_model for a phone)."),
]
Front = Annotated[
    bool,
    typer.Option(
        "--front",
        help="Find networks for ten more latencies in the same search (--set target.front=10); with search, "
        "also runs prune, which selects them.",
    ),
]
FullLength = Annotated[
    bool,
    typer.Option(
        "--full-length",
        help="Take as many epochs as the settings say, however slow this computer is "
        "(--set training.budget_minutes=null).",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only list what would be done, why, and how long it takes, with what would be trained: epochs, "
        "steps, images, parameters, memory and hours. A few training steps are timed for it.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")
]


def selection(
    config: Path | None,
    assignments: list[str] | None,
    device: str | None,
    seed: str | None,
    *,
    offline: bool = False,
    front: bool = False,
    full_length: bool = False,
) -> Selection:
    """What these options select."""
    chosen = [*(assignments or ())]
    chosen += ["target.front=10"] if front else []
    chosen += ["training.budget_minutes=null"] if full_length else []
    return Selection(config, tuple(chosen), device, seed, offline)
