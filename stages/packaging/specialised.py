"""The networks of several finished runs as one AI pack: files, texts, and which phones get which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nasflow.base.errors import UsageError
from nasflow.base.text import markdown_text
from pipeline.artifact import sha256_hex
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
from stages.reporting.notation import milliseconds

_TOLD = ("MODEL_CARD.md", "NOTICE", "provenance.json", "result.json")


@dataclass(frozen=True)
class Group:
    """A group of phones and what it gets; ``facts`` None: all phones of no other group."""

    name: str
    shipment: Shipment
    facts: DeviceFacts | None


def groups_of(shipments: Sequence[Shipment]) -> list[Group]:
    """One group for each run that was measured on a phone, and one for all others: the first run's network.

    Raises UsageError where the device of a run after the first is no phone, or is not known well enough.
    """
    groups = []
    for index, shipment in enumerate(shipments):
        device = shipment.run.verify.device
        if index > 0 or device.kind == "android":
            facts = device_facts(device)
            groups.append(Group(group_name(facts), shipment, facts))
    return [*groups, Group(DEFAULT_GROUP, shipments[0], None)]


def ai_pack_files(shipments: Sequence[Shipment]) -> dict[str, bytes]:
    """All files of the package by their paths: the pack, its targeting, and what each network's card says.

    Raises UsageError where the networks have other classes, and as :func:`stages.packaging.ai_pack.ai_pack`
    does.
    """
    first = shipments[0]
    for other in shipments[1:]:
        if other.labels != first.labels:
            raise UsageError(
                f"the networks have other classes: {_classes(first)}; {_classes(other)}.",
                hint="An app has one list of labels: name runs with the same classes in the same order.",
            )
    groups, pack = groups_of(shipments), pack_name(first.coordinates.name)
    files = ai_pack(
        [
            Specialised(group.shipment.verified.content, (group.facts,), group.name)
            for group in groups
            if group.facts is not None
        ],
        first.verified.content,
        pack=pack,
    )
    files |= {LABELS: first.labels, "README.md": _readme(groups, pack)}
    for group in groups:
        if group.facts is not None or group.shipment.run.verify.device.kind != "android":
            made = build_package(group.shipment).files
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
        f"| `{group.name}` | {_devices(group.facts)} | {_figures(group.shipment)} |" for group in groups
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

A chip can be told since Android 12: older phones get the network of `{DEFAULT_GROUP}`.
`sha256sum -c {SUMS}` checks this folder.
""".encode()


def _devices(facts: DeviceFacts | None) -> str:
    if facts is None:
        return "all others"
    if facts.soc_model:
        return markdown_text(f"with {facts.soc_manufacturer} {facts.soc_model}")
    return markdown_text(f"{facts.brand} {facts.device}")


def _figures(shipment: Shipment) -> str:
    network, device = shipment.result.network, shipment.result.device
    return markdown_text(
        f"{network.architecture}: {network.accuracy_percent:.2f} %, {milliseconds(network.median_ms)} on "
        f"{device.model}"
    )
