"""``nasflow ship --ai-pack``: several runs as one pack, from which Play gives each phone its network."""

from __future__ import annotations

from collections.abc import Sequence

from nasflow.base.text import human_bytes, plain_line
from nasflow.cli.console import message_lines
from nasflow.cli.request import Outcome
from nasflow.commands.first_look import Told
from nasflow.commands.ship import SHIPPED, Run, ShipRequest, prepared
from nasflow.commands.summary import short


def ship_ai_pack(runs: Sequence[Run], request: ShipRequest) -> Outcome:
    """Write ``artifacts/shipped/NAME-VERSION-ai-pack`` beside the first run's results.

    Phones with the chip that a run was measured on get its network; all others get the first run's. Raises
    UsageError where runs may not be shipped, have other classes, or were measured on the same chip, or that
    version was shipped with other content; else as :func:`nasflow.commands.ship.ship` does.
    """
    from stages.packaging.coordinates import Coordinates
    from stages.packaging.specialised import ai_pack_files, groups_of
    from stages.packaging.writing import is_up_to_date, write_folder

    coordinates = Coordinates(request.name or runs[0].default_name, request.version)
    told = Told()
    finished, shipments = zip(*(prepared(run, coordinates, request, told) for run in runs), strict=True)
    groups = groups_of(shipments)
    files = ai_pack_files(shipments)
    store = finished[0].store
    folder = store.root / SHIPPED / f"{coordinates.folder}-ai-pack"
    hint = "Ship it as another version (--version), or delete that folder if nobody uses it yet."
    with store.lock():
        written = not is_up_to_date(folder, files, hint=hint)
        if written:
            write_folder(folder, files)
    warnings = [shipment.unverified for shipment in shipments if shipment.unverified]
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
