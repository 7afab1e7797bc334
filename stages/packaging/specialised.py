"""The networks of several finished runs as one AI pack: files, texts, and which phones get which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from nasflow.base.errors import UsageError
from nasflow.base.text import markdown_text
from pipeline.artifact import sha256_hex
from stages.packaging.aar import NOTICE_ASSET
from stages.packaging.ai_pack import (
    DEFAULT_GROUP,
    TARGETING,
    DeviceFacts,
    Specialised,
    ai_pack,
    device_facts,
    group_name,
)
from stages.packaging.labels import LABELS
from stages.packaging.package import SUMS, build_package
from stages.packaging.shipment import Shipment
from stages.packaging.texts import notice
from stages.reporting.notation import milliseconds

_TOLD = ("MODEL_CARD.md", "NOTICE", "provenance.json", "result.json")


@dataclass(frozen=True)
class Group:
    """A group of phones, each of which some ``devices`` hold, and what it gets; none: all others' phones."""

    name: str
    shipment: Shipment
    devices: tuple[DeviceFacts, ...]


def groups_of(
    shipments: Sequence[Shipment], asked: Mapping[int, Sequence[DeviceFacts]] = MappingProxyType({})
) -> list[Group]:
    """One group for each run that was measured on a phone, and one for all others: the first run's network.

    ``asked``: by the place of a run, the phones that get its network in place of those with the chip that it
    was measured on. Raises UsageError where the device of a run after the first is no phone, or is not known
    well enough, and nothing was asked for it.
    """
    groups = []
    for index, shipment in enumerate(shipments):
        device = shipment.run.verify.device
        if devices := tuple(asked.get(index, ())):
            groups.append(Group(group_name(devices[0]), shipment, devices))
        elif index > 0 or device.kind == "android":
            facts = device_facts(device)
            groups.append(Group(group_name(facts), shipment, (facts,)))
    return [*groups, Group(DEFAULT_GROUP, shipments[0], ())]


def ai_pack_files(groups: Sequence[Group]) -> dict[str, bytes]:
    """All files of the package by their paths: the pack, its targeting, and what each network's card says.

    ``groups``: that of all other phones is the last. Raises UsageError where the networks have other classes,
    and as :func:`stages.packaging.ai_pack.ai_pack` does.
    """
    first = groups[-1].shipment
    for other in (group.shipment for group in groups):
        if other.labels != first.labels:
            raise UsageError(
                f"the networks have other classes: {_classes(first)}; {_classes(other)}.",
                hint="An app has one list of labels: name runs with the same classes in the same order.",
            )
    pack = pack_name(first.coordinates.name)
    files = ai_pack(
        [
            Specialised(group.shipment.verified.content, group.devices, group.name, notice(group.shipment))
            for group in groups
            if group.devices
        ],
        first.verified.content,
        pack=pack,
        default_notice=notice(first),
    )
    files |= {LABELS: first.labels, "README.md": _readme(groups, pack)}
    described = [group for group in groups if group.devices]
    for group in groups:
        if group.devices or not any(group.shipment is other.shipment for other in described):
            of_pack = replace(
                group.shipment, models=(group.shipment.verified,)
            )  # it holds no other precision
            made = build_package(of_pack).files
            files |= {f"{group.name}/{name}": made[name] for name in _TOLD if name in made}
    sums = "".join(f"{sha256_hex(files[name])}  {name}\n" for name in sorted(files))
    return {**files, SUMS: sums.encode()}


def pack_name(name: str) -> str:
    """The name of a pack: letters, digits and underscores, a letter first."""
    word = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return word if word[:1].isalpha() else f"models_{word}"


def _classes(shipment: Shipment) -> str:
    names = shipment.labels.decode().splitlines()
    return f"{len(names)} from {names[0]!r} to {names[-1]!r}"


def _readme(groups: Sequence[Group], pack: str) -> bytes:
    coordinates = groups[0].shipment.coordinates
    rows = "\n".join(
        f"| `{group.name}` | {_devices(group.devices)} | {_figures(group.shipment)} |" for group in groups
    )
    descending = any(group.shipment.pretrained is not None for group in groups)
    noticed = (
        f"A network that descends from published weights has the asset `model/{NOTICE_ASSET}` beside it, "
        "which must be shown or shipped with the app.\n\n"
        if descending
        else ""
    )
    return f"""# {coordinates.name} {coordinates.version}: an AI pack for Google Play

Play gives each phone the network of its group. The app finds it as the asset `model/model.tflite`, with its
labels inside. Networks may take inputs of different sizes: read them from the file, or use MediaPipe.

| Group | Phones | Network |
|---|---|---|
{rows}

1. Copy the folder `{pack}` beside the app's, and `{TARGETING}` into the app's.
2. `settings.gradle.kts`: `include(":{pack}")`
3. `gradle.properties`: `android.experimental.enableDeviceTargetingConfigApi=true`
4. `build.gradle.kts` of the app (Android Gradle plugin 8.10 or newer), in `android {{ ... }}`:

```kotlin
assetPacks += listOf(":{pack}")
bundle {{
    deviceTargetingConfig = file("{TARGETING}")
    deviceGroup {{
        enableSplit = true
        defaultGroup = "{DEFAULT_GROUP}"
    }}
}}
```

{noticed}A chip can be told since Android 12: older phones get the network of `{DEFAULT_GROUP}`.
`sha256sum -c {SUMS}` checks this folder.
""".encode()


def _devices(devices: Sequence[DeviceFacts]) -> str:
    return markdown_text(" or ".join(facts.describe() for facts in devices)) or "all others"


def _figures(shipment: Shipment) -> str:
    network, device = shipment.result.network, shipment.result.device
    return markdown_text(
        f"{network.architecture}: {network.accuracy_percent:.2f} %, {milliseconds(network.median_ms)} on "
        f"{device.model}"
    )
