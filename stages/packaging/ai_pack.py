"""An AI pack for Google Play: each group of devices gets the network that was made for it.

Layout: that of ``ai_edge_litert.aot.ai_pack.export_lib``; groups and their order:
https://developer.android.com/google/play/on-device-ai and https://developer.android.com/google/play/device-targeting;
names: ``DeviceTargetingUtils`` of bundletool.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from android_bench.device import DeviceInfo
from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from stages.packaging.aar import NOTICE_ASSET

TARGETING = "device_targeting_configuration.xml"
DEFAULT_GROUP = "other"
"""Devices of no group; Play makes the group itself."""
MOST_DEVICES = 5
"""Selectors that a group may have."""

_MOST_BYTES = 2**63 - 1
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_SPELLINGS = {"qti": ("Qualcomm", "QTI"), "qualcomm": ("Qualcomm", "QTI")}
"""Phones with one maker's chips that name it in two ways."""
_FINGERPRINT = re.compile(r"([^/:\s]+)/[^/:\s]+/([^/:\s]+):.+")


@dataclass(frozen=True)
class DeviceFacts:
    """Which devices are meant: those for which all that is given holds. Empty and None: whatever it is.

    ``brand`` and ``device`` are Android's ``Build.BRAND`` and ``Build.DEVICE`` (google, husky); the chip's
    names ``Build.SOC_MANUFACTURER`` and ``SOC_MODEL``, which devices know since Android 12. ``ram_min_bytes``
    is included, ``ram_max_bytes`` is not.
    """

    brand: str = ""
    device: str = ""
    soc_manufacturer: str = ""
    soc_model: str = ""
    ram_min_bytes: int | None = None
    ram_max_bytes: int | None = None

    def covers(self, other: DeviceFacts) -> bool:
        """Whether every device of ``other`` is one of these."""
        mine, others = self._key(), other._key()
        low, high = self.ram_min_bytes or 0, self.ram_max_bytes
        other_high = other.ram_max_bytes
        return (
            all(not own or own == its for own, its in zip(mine, others, strict=True))
            and low <= (other.ram_min_bytes or 0)
            and (high is None or (other_high is not None and other_high <= high))
        )

    def describe(self) -> str:
        """``google husky, with Google Tensor G3, 8 GB and more``."""
        chip = f"{self.soc_manufacturer} {self.soc_model}".strip()
        words = [f"{self.brand} {self.device}".strip(), f"with {chip}" if chip else ""]
        if self.ram_min_bytes is not None:
            words.append(f"{self.ram_min_bytes / 1e9:g} GB and more")
        if self.ram_max_bytes is not None:
            words.append(f"below {self.ram_max_bytes / 1e9:g} GB")
        return ", ".join(filter(None, words))

    def _key(self) -> tuple[str, ...]:
        maker = _SPELLINGS.get(self.soc_manufacturer.lower(), (self.soc_manufacturer,))[0]
        return self.brand.lower(), self.device, maker.lower(), self.soc_model


@dataclass(frozen=True)
class Specialised:
    """A network (a `.tflite` file) and the devices that get it.

    ``group`` is the group's name; empty: it is named after its first devices. ``notice``: whose weights the
    network descends from, which lies beside it; None: nobody's.
    """

    network: bytes
    devices: tuple[DeviceFacts, ...]
    group: str = ""
    notice: bytes | None = None

    @property
    def name(self) -> str:
        """The group's name."""
        return self.group or (group_name(self.devices[0]) if self.devices else "")


def device_facts(info: DeviceInfo) -> DeviceFacts:
    """The devices for which a network that was measured on this one is meant: those with the same chip.

    Where the chip's maker and model are not known, those of the same model. Raises UsageError where neither
    is.
    """
    maker, _, chip = info.soc.partition(" ")
    if info.kind == "android" and maker and chip:
        return DeviceFacts(soc_manufacturer=maker, soc_model=chip)
    build = _FINGERPRINT.fullmatch(info.os_build)
    if info.kind == "android" and build is not None:
        return DeviceFacts(brand=build[1], device=build[2])
    raise UsageError(
        f"a network that was measured on {plain_line(info.model) or 'an unknown device'} cannot be meant for "
        f"a group of phones: neither a chip's maker and model ({plain_line(info.soc) or 'not known'}) nor a "
        "brand and a device can be told.",
        hint="Measure on a phone (--device android), or leave this run out.",
    )


def group_name(facts: DeviceFacts) -> str:
    """``Qualcomm_SM8550``, ``google_husky``, ``ram_8000000000``: a name that Play takes."""
    maker = _SPELLINGS.get(facts.soc_manufacturer.lower(), (facts.soc_manufacturer,))[0]
    words = [facts.brand, facts.device, maker, facts.soc_model]
    words += [f"ram_{facts.ram_min_bytes}"] if facts.ram_min_bytes is not None else []
    words += [f"ram_below_{facts.ram_max_bytes}"] if facts.ram_max_bytes is not None else []
    name = re.sub(r"[^a-zA-Z0-9]+", "_", "_".join(words)).strip("_")
    return name if _NAME.fullmatch(name) else f"group_{name}"


def ai_pack(
    specialised: Sequence[Specialised],
    default: bytes | None,
    *,
    pack: str,
    model: str = "model",
    default_notice: bytes | None = None,
) -> dict[str, bytes]:
    """The files of an AI pack by their paths; its folder ``pack`` stands beside the app's in the project.

    A device that belongs to several groups gets the network of the first; ``default`` is for all others. The
    app reads ``model/<model>.tflite``: what follows ``#`` is gone in what Play delivers. Raises UsageError
    for names that Play refuses, for groups that are there twice or that no device can reach, and without a
    default.
    """
    if not _NAME.fullmatch(pack):
        raise UsageError(
            f"{plain_line(pack)!r} is no name of an AI pack.",
            hint="Take a letter first, then letters, digits and underscores only.",
        )
    if not re.fullmatch(r"[a-zA-Z0-9_.-]+", model):
        raise UsageError(
            f"{plain_line(model)!r} is no name of a file.",
            hint="Take letters, digits, '.', '-' and '_' only.",
        )
    if default is None:
        raise UsageError(
            "an AI pack needs a network for the devices of no group.",
            hint="Name the run whose network all others get.",
        )
    _check(specialised)
    others = Specialised(default, (), DEFAULT_GROUP, default_notice)
    folders = {f"{pack}/src/main/assets/model#group_{each.name}": each for each in (*specialised, others)}
    return {
        TARGETING: targeting(specialised).encode(),
        f"{pack}/build.gradle.kts": _BUILD.format(pack=pack).encode(),
        **{f"{folder}/{model}.tflite": each.network for folder, each in folders.items()},
        **{f"{folder}/{NOTICE_ASSET}": n for folder, e in folders.items() if (n := e.notice) is not None},
    }


def targeting(specialised: Sequence[Specialised]) -> str:
    """The configuration that says which devices a group has, the first group first."""
    groups = "\n".join(
        f"    <config:device-group name={quoteattr(each.name)}>\n"
        + "\n".join(_selector(facts) for facts in each.devices)
        + "\n    </config:device-group>"
        for each in specialised
    )
    return f"""<config:device-targeting-config
    xmlns:config="http://schemas.android.com/apk/config">
{groups}
</config:device-targeting-config>
"""


def _selector(facts: DeviceFacts) -> str:
    ram = "".join(
        f' {name}="{value}"'
        for name, value in (("ram-min-bytes", facts.ram_min_bytes), ("ram-max-bytes", facts.ram_max_bytes))
        if value is not None
    )
    inner = []
    if facts.brand:
        device = f" device={quoteattr(facts.device)}" if facts.device else ""
        inner.append(f"<config:included-device-id brand={quoteattr(facts.brand)}{device}/>")
    if facts.soc_model:
        makers = _SPELLINGS.get(facts.soc_manufacturer.lower(), (facts.soc_manufacturer,))
        inner += [
            f"<config:system-on-chip manufacturer={quoteattr(maker)} model={quoteattr(facts.soc_model)}/>"
            for maker in makers
        ]
    if not inner:
        return f"        <config:device-selector{ram}/>"
    lines = "\n".join(f"            {line}" for line in inner)
    return f"        <config:device-selector{ram}>\n{lines}\n        </config:device-selector>"


def _check(specialised: Sequence[Specialised]) -> None:
    if not specialised:
        raise UsageError(
            "an AI pack with one network for all devices needs no groups.",
            hint="Ship the network itself, or name runs that were measured on several phones.",
        )
    seen: dict[str, str] = {}
    before: list[tuple[str, DeviceFacts]] = []
    for each in specialised:
        name = each.name
        if not _NAME.fullmatch(name) or name.lower() == DEFAULT_GROUP:
            raise UsageError(
                f"{plain_line(name)!r} is no name of a device group.",
                hint="Take a letter first, then letters, digits and underscores only, and not 'other'.",
            )
        if name.lower() in seen:
            raise UsageError(
                f"there are two networks for the device group {name}.",
                hint="Leave one of the runs out, or name other phones for it: --group.",
            )
        seen[name.lower()] = name
        if not 1 <= len(each.devices) <= MOST_DEVICES:
            raise UsageError(
                f"the device group {name} has {len(each.devices)} kinds of devices; Play takes 1 to "
                f"{MOST_DEVICES}.",
                hint="Split the group.",
            )
        for facts in each.devices:
            _check_facts(facts, name)
            for other, earlier in before:
                if other != name and earlier.covers(facts):
                    raise UsageError(
                        f"no device gets the network of group {name} for {plain_line(facts.describe())}: "
                        f"group {other}, which comes first, has them all.",
                        hint="Name the run for fewer devices first.",
                    )
            before.append((name, facts))


def _check_facts(facts: DeviceFacts, name: str) -> None:
    words = (facts.brand, facts.device, facts.soc_manufacturer, facts.soc_model)
    wrong = ""
    if any(not word.isprintable() or len(word) > 100 for word in words):
        wrong = "has a name that cannot be printed or has more than 100 characters"
    elif facts == DeviceFacts():
        wrong = "names no property of a device"
    elif facts.device and not facts.brand:
        wrong = f"names the device {plain_line(facts.device)} without its brand"
    elif bool(facts.soc_manufacturer) != bool(facts.soc_model):
        wrong = "names a chip's maker or its model, and not both"
    elif not 0 < (facts.ram_min_bytes or 1) < (facts.ram_max_bytes or _MOST_BYTES):
        wrong = f"asks for {facts.ram_min_bytes} to {facts.ram_max_bytes} bytes of memory"
    if wrong:
        raise UsageError(f"the device group {name} {wrong}.", hint="Correct it, or leave it out.")


_BUILD = """plugins {{
    id("com.android.ai-pack")
}}

aiPack {{
    packName = "{pack}"
    dynamicDelivery {{
        deliveryType = "install-time"
    }}
}}
"""
