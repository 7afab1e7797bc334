"""``nasflow ship --ai-pack``: several runs as one pack, from which Play gives each phone its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from nasflow.base.errors import UsageError
from nasflow.base.text import human_bytes, plain_line
from nasflow.cli.console import message_lines
from nasflow.cli.request import Outcome
from nasflow.commands.first_look import Told
from nasflow.commands.ship import SHIPPED, Run, ShipRequest, prepared, warnings_of
from nasflow.commands.summary import short

if TYPE_CHECKING:
    from stages.packaging.ai_pack import DeviceFacts


def groups_asked(runs: Sequence[Path], options: Sequence[str]) -> dict[int, list[DeviceFacts]]:
    """By the place of a run, the phones that ``--group RUN=DEVICES`` asks for it. Raises UsageError."""
    from stages.packaging.device_words import devices_in

    asked: dict[int, list[DeviceFacts]] = {}
    for option in options:
        name, _, words = option.rpartition("=")
        places = [place for place, run in enumerate(runs) if str(run) == name or run == Path(name)]
        if not name or len(places) != 1:
            raise UsageError(
                f"--group '{plain_line(option, limit=200)}' does not name one of the runs.",
                hint=f"Write a RUN as it stands in the command: --group '{runs[-1]}=ram:8-'.",
            )
        asked.setdefault(places[0], []).append(devices_in(words))
    return asked


def ship_ai_pack(
    runs: Sequence[Run],
    request: ShipRequest,
    asked: Mapping[int, Sequence[DeviceFacts]] = MappingProxyType({}),
) -> Outcome:
    """Write ``artifacts/shipped/NAME-VERSION-ai-pack`` beside the first run's results.

    Phones with the chip that a run was measured on get its network, or those that ``asked`` names by the
    run's place; all others get the first run's. Raises
    UsageError where runs may not be shipped, have other classes, or were measured on the same chip, or that
    version was shipped with other content; else as :func:`nasflow.commands.ship.ship` does.
    """
    from stages.packaging.coordinates import Coordinates
    from stages.packaging.specialised import ai_pack_files, groups_of
    from stages.packaging.writing import is_up_to_date, write_folder

    coordinates = Coordinates(request.name or runs[0].package_name, request.version)
    told = Told()
    finished, shipments = zip(*(prepared(run, coordinates, request, told) for run in runs), strict=True)
    groups = groups_of(shipments, asked)
    files = ai_pack_files(groups)
    store = finished[0].store
    folder = store.root / SHIPPED / f"{coordinates.folder}-ai-pack"
    hint = "Ship it as another version (--version), or delete that folder if nobody uses it yet."
    with store.lock():
        written = not is_up_to_date(folder, files, hint=hint)
        if written:
            write_folder(folder, files)
    warnings = list(dict.fromkeys(text for shipment in shipments for text in warnings_of(shipment)))
    state = "Shipped" if written else "Nothing to do: this was shipped before."
    lines = [
        f"{group.name}: {group.shipment.result.network.architecture}, "
        f"{human_bytes(len(group.shipment.verified.content))}, measured on "
        f"{plain_line(group.shipment.result.device.model)}"
        for group in groups
    ]
    return Outcome(
        document={
            "name": coordinates.name,
            "version": coordinates.version,
            "written": written,
            "folder": str(folder),
            "warnings": warnings,
            "groups": [
                {
                    "name": group.name,
                    "device": group.shipment.result.device.model,
                    "soc": group.shipment.result.device.soc,
                    "median_ms": group.shipment.result.network.median_ms,
                    "accuracy_percent": group.shipment.result.network.accuracy_percent,
                }
                for group in groups
            ],
            "files": {name: str(folder / name) for name in sorted(files)},
        },
        text="\n".join(
            [
                *message_lines(told.events),
                *(f"warning: {warning}" for warning in warnings),
                f"{state} {coordinates.name} {coordinates.version} as an AI pack:",
                *lines,
                f"Package     {short(folder)}",
            ]
        ),
    )
