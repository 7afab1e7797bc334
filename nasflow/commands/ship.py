"""``nasflow ship``: a finished run's network as a package for apps."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasflow.base.errors import UsageError
from nasflow.base.files import read_or_none
from nasflow.base.text import human_bytes
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson, Config
from nasflow.cli.request import Action, Outcome, Selection
from nasflow.commands.first_look import Told
from nasflow.commands.project import open_project
from nasflow.commands.summary import short
from nasflow.publish import MANIFEST, RESULT, artifacts_of
from pipeline.config.loader import FILE_NAME

if TYPE_CHECKING:
    from nasflow.finished_run import FinishedRun
    from stages.packaging.coordinates import Coordinates
    from stages.packaging.shipment import Shipment

SHIPPED = "shipped"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder ``artifacts/latest``, and what it is called beside others.

    ``package_name``: the name that its network gets without another; never a serial number.
    """

    latest: Path
    default_name: str
    package_name: str


@dataclass(frozen=True)
class ShipRequest:
    """What ``nasflow ship`` was asked for; empty words: nothing was said."""

    version: str
    name: str = ""
    author: str = ""
    licence: str = ""
    allow_unverified: bool = False


def find_run(path: Path | None, config: Path | None = None) -> Run:
    """The run that a RUN names: a project's folder, its configuration, or a folder with a run's results.

    None: the project of the present folder, or of ``config``. Raises UsageError, ConfigError.
    """
    if path is not None and path.is_dir():
        if (path / MANIFEST).is_file():
            latest = path.resolve()
            artifacts = artifacts_of(latest)
            name = artifacts.parent.name
            if latest.parent == artifacts:
                return Run(latest, name, name)
            return Run(latest, f"{name}-{latest.name}", f"{name}-{_device_word(latest)}")
        config = path / FILE_NAME
    elif path is not None:
        config = path
    if config is not None and (not config.is_file() or config.suffix == ".tflite"):
        raise UsageError(
            f"{path or config} is no finished run.",
            hint=f"Name a project's folder, its {FILE_NAME}, or its folder artifacts/latest.",
        )
    project = open_project(Selection(config))
    name = project.base_dir.resolve().name
    return Run(project.latest, name, name)


def _device_word(latest: Path) -> str:
    """What tells the folder of one of several devices from others in a name: of a phone, its model."""
    word = latest.name
    if word.startswith("android"):
        word = ""
        with suppress(ValueError, KeyError, TypeError):  # damaged: whoever reads all of it says so
            word = str(json.loads(read_or_none(latest / RESULT) or b"{}")["device"]["model"])
    return re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-.").lower() or "device"


def prepared(
    run: Run, coordinates: Coordinates, request: ShipRequest, told: Told
) -> tuple[FinishedRun, Shipment]:
    """A finished run, and its network ready to be packed. Raises as :func:`ship` does."""
    from nasflow.finished_run import read_finished
    from stages.packaging.shipment import Asked, check_may_ship, prepare

    finished = read_finished(run.latest, told)
    check_may_ship(finished.result, allow_unverified=request.allow_unverified)
    shipment = prepare(
        coordinates,
        Asked(request.author, request.licence),
        finished.documents,
        finished.records,
        finished.result,
        finished.store.read_bytes,
    )
    return finished, shipment


def warnings_of(shipment: Shipment) -> list[str]:
    """What a person who ships a network should know."""
    refused = shipment.verified.facts.refused_by_apps()
    return [
        *([f"MediaPipe's ImageClassifier and ML Kit will not take it: {refused}."] if refused else []),
        *([shipment.unverified] if shipment.unverified else []),
    ]


def ship(run: Run, request: ShipRequest) -> Outcome:
    """Write ``artifacts/shipped/NAME-VERSION`` of a finished run, and its version in the Maven repository.

    Raises UsageError where it may not be shipped, or was shipped with other content; GateFailedError,
    InconclusiveError; ConversionError where a file cannot be shipped; IntegrityError, MachineError.
    """
    from stages.packaging.coordinates import Coordinates
    from stages.packaging.package import SUMS, build_package
    from stages.packaging.placing import REPOSITORY, place

    coordinates = Coordinates(request.name or run.package_name, request.version)
    told = Told()
    finished, shipment = prepared(run, coordinates, request, told)
    store = finished.store
    package = build_package(shipment)
    shipped = store.root / SHIPPED
    with store.lock():
        written = place(package, coordinates, shipped, finished.records["verify"].finished_at)
    warnings = warnings_of(shipment)
    folder, repository = shipped / coordinates.folder, shipped / REPOSITORY
    models = ", ".join(f"{m.name} ({m.precision}, {human_bytes(len(m.content))})" for m in shipment.models)
    state = "Shipped" if written else "Nothing to do: this was shipped before."
    return Outcome(
        document={
            "name": coordinates.name,
            "version": coordinates.version,
            "written": written,
            "folder": str(folder),
            "repository": str(repository),
            "dependency": coordinates.gradle,
            "warnings": warnings,
            "files": {name: str(folder / name) for name in sorted(package.files)},
            "sha256": {
                name: digest
                for digest, _, name in (
                    line.partition("  ") for line in package.files[SUMS].decode().splitlines()
                )
            },
        },
        text="\n".join(
            [
                *message_lines(told.events),
                *(f"warning: {warning}" for warning in warnings),
                f"{state} {coordinates.name} {coordinates.version}: {models}",
                f"Package     {short(folder)}",
                f'Repository  maven {{ url = uri("{repository}") }}',
                f'Dependency  implementation("{coordinates.gradle}")',
            ]
        ),
    )


def command(
    version: Annotated[str, typer.Option("--version", metavar="V", help="Version of the package, as 1.0.0.")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="A finished run: a project's folder, its pipeline.yaml, or its artifacts/latest. Default: "
            "the project here.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="N", help="Name of the package; default: the project folder's.")
    ] = "",
    author: Annotated[
        str, typer.Option("--author", metavar="TEXT", help="Who made the network; written into its files.")
    ] = "",
    licence: Annotated[
        str,
        typer.Option("--licence", "--license", metavar="TEXT", help="Its licence; written into its files."),
    ] = "",
    allow_unverified: Annotated[
        bool,
        typer.Option(
            "--allow-unverified",
            help="Ship although the gate failed or is inconclusive; the model card says so.",
        ),
    ] = False,
    ai_pack: Annotated[
        bool,
        typer.Option(
            "--ai-pack",
            help="Several runs as one pack for Google Play: phones with the chip that a run was measured on "
            "get its network, all others the first one's.",
        ),
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="RUN=PHONES",
            help="With --ai-pack, phones that get a run's network in place of those with its chip: "
            "soc:MAKER MODEL, device:BRAND/DEVICE, brand:BRAND, ram:LEAST-BELOW (GB), joined by '+' where "
            "all must hold. Several for one run: any of them.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> Action:
    """Pack a finished run's network for apps: metadata, AAR, Maven repository, model card."""

    request = ShipRequest(version, name, author, licence, allow_unverified)
    if ai_pack:
        return lambda: _ai_pack(runs or (), group or (), config, request)
    if group:
        raise UsageError("--group is for --ai-pack.", hint="Add --ai-pack, or leave --group out.")
    return lambda: ship(_single(runs or (), config), request)


def _ai_pack(
    runs: Sequence[Path], groups: Sequence[str], config: Path | None, request: ShipRequest
) -> Outcome:
    from nasflow.commands.ship_ai_pack import groups_asked, ship_ai_pack

    if config is not None or len(runs) < 2:
        raise UsageError(
            f"--ai-pack needs several runs by name, and {len(runs)} "
            f"{'was' if len(runs) == 1 else 'were'} named.",
            hint="Name them: nasflow ship --ai-pack --version V RUN_A RUN_B; all other phones get RUN_A's.",
        )
    return ship_ai_pack([find_run(run) for run in runs], request, groups_asked(runs, groups))


def _single(runs: Sequence[Path], config: Path | None) -> Run:
    if len(runs) > 1:
        raise UsageError(
            f"{len(runs)} runs were named; a package holds the network of one.",
            hint="Ship each by itself, with a name of its own (--name), or all as one AI pack (--ai-pack).",
        )
    if runs and config is not None:
        raise UsageError("RUN and --config both name a run.", hint="Give one of them.")
    return find_run(runs[0] if runs else None, config)
