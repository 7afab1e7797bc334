"""What a phone's own commands print, as data: dumpsys, getprop, cpufreq, date, uptime, boot id.

A phone's text is not trusted: what does not read as expected is None ("unknown"), never a guess. Only a
text's numbers come out, scaled where a unit says so. Bytes go through
:func:`~android_bench.transport.plain_text` first, which caps them and takes escapes out.

Sources: AOSP ``ThermalManagerService.dump``, ``BatteryService.dump``, ``PowerManagerService.dumpInternal``
with ``PowerManagerInternal.wakefulnessToString``, ``hardware/interfaces/thermal``; toybox ``date.c``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from android_bench.device import CpuPolicy

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_UNKNOWN_CELSIUS = (0.0, -99.9)
_SKIN_TYPE = 3
_OTHER_KINDS = ("bat", "cpu", "gpu", "npu", "usb", "ap", "modem", "amplifier", "bcl")
# Lengths are bounded, so that no text takes more than time in proportion to its size.
_TEMPERATURE = re.compile(
    r"mValue=([^,{}]{0,40}), ?mType=([^,{}]{0,40}), ?mName=([^,{}]{0,200}), ?mStatus=([^,{}]{0,40})"
)
_PROPERTY = re.compile(r"^\[([^\[\]\n]{1,200})\]: \[(.{0,1000}?)\]$", re.MULTILINE | re.DOTALL)
_CPUFREQ = re.compile(r"^policy([0-9]{1,3})/([a-z_]{1,40})=([0-9 ]*)$", re.MULTILINE)
_WAKEFULNESS = re.compile(r"^[ \t]*mWakefulness=(Awake|Asleep|Dreaming|Dozing)[ \t]*$", re.MULTILINE)
_SECONDS = re.compile(r"([0-9]{1,11})(\.[0-9]{1,9})?(?:\.%?N)?")
_BOOT_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True)
class Temperature:
    """One sensor. ``kind`` is Android's number (3: skin), which some vendors number otherwise."""

    name: str
    kind: int | None
    celsius: float | None
    status: int | None


@dataclass(frozen=True)
class Thermal:
    """``dumpsys thermalservice``. ``status``: 0 none, 1 light, 2 moderate ... 6 shutdown."""

    status: int | None
    overridden: bool | None
    temperatures: tuple[Temperature, ...]

    @property
    def skin_celsius(self) -> float | None:
        """The hottest skin sensor; by name where one says so, else by Android's number."""
        named = [sensor for sensor in self.temperatures if "skin" in sensor.name.lower()]
        typed = [
            sensor
            for sensor in self.temperatures
            if sensor.kind == _SKIN_TYPE and not any(word in sensor.name.lower() for word in _OTHER_KINDS)
        ]
        known = [sensor.celsius for sensor in named or typed if sensor.celsius is not None]
        return max(known, default=None)


@dataclass(frozen=True)
class Battery:
    """``dumpsys battery``. ``updates_stopped``: somebody has set the values by hand.

    Where ``present`` is false there is no battery (a TV, a board): its level says nothing.
    """

    level: int | None
    scale: int | None
    tenths_celsius: int | None
    powered: bool | None
    updates_stopped: bool
    present: bool | None = None

    @property
    def percent(self) -> float | None:
        """Charge, 0 to 100; None where it is not told, or there is no battery."""
        if self.present is False or self.level is None or self.scale is None:
            return None
        if not 0 <= self.level <= self.scale or self.scale == 0:
            return None
        return 100 * self.level / self.scale

    @property
    def celsius(self) -> float | None:
        """The battery's temperature."""
        return None if self.tenths_celsius is None else _celsius(self.tenths_celsius / 10)


@dataclass(frozen=True)
class PhoneProperties:
    """Who the phone is; None where its properties do not say.

    ``abis`` are those whose programs it runs, the best one first; none: not told.
    """

    model: str | None
    soc: str | None
    abi: str | None
    abis: tuple[str, ...]
    sdk: int | None
    android_version: str | None
    os_build: str | None


def parse_thermal(text: str) -> Thermal:
    """Only what stands under "Current temperatures from HAL" is live; cached values are not read."""
    live: list[Temperature] = []
    inside = False
    for line in text.split("\n"):
        if inside and "temperature{" in line.lower():
            found = _TEMPERATURE.search(line)
            if found:
                live.append(_temperature(*found.groups()))
        else:
            inside = line.strip().lower() == "current temperatures from hal:"
    status = _int(_value(text, "Thermal Status"))
    override = _value(text, "IsStatusOverride")
    return Thermal(
        status=status if status is not None and 0 <= status <= 6 else None,
        overridden=_bool(override),
        temperatures=tuple(live),
    )


def parse_battery(text: str) -> Battery:
    """The first value of each key; vendors append sections of their own."""
    sources = [_bool(_value(text, f"{source} powered")) for source in ("AC", "USB", "Wireless", "Dock")]
    known = [source for source in sources if source is not None]
    return Battery(
        level=_int(_value(text, "level")),
        scale=_int(_value(text, "scale")),
        tenths_celsius=_int(_value(text, "temperature")),
        powered=any(known) if known else None,
        updates_stopped="updates stopped" in text.lower(),
        present=_bool(_value(text, "present")),
    )


def parse_getprop(text: str) -> Mapping[str, str]:
    """Every ``[key]: [value]``; an empty value is an empty text, the first of equal keys holds."""
    properties: dict[str, str] = {}
    for key, value in _PROPERTY.findall(text):
        properties.setdefault(key, value)
    return MappingProxyType(properties)


def parse_properties(text: str) -> PhoneProperties:
    """The properties that tell phones apart."""
    properties = parse_getprop(text)

    def first(*keys: str) -> str | None:
        return next((value for key in keys if (value := _word(properties.get(key, "")))), None)

    # abilist came with Android 5; abi and abi2 are its first two (AOSP, build/core/sysprop.mk).
    abi = first("ro.product.cpu.abi")
    listed = (first("ro.product.cpu.abilist") or "").split(",")
    maker, chip = first("ro.soc.manufacturer"), first("ro.soc.model")
    soc = f"{maker} {chip}" if maker and chip else chip
    return PhoneProperties(
        model=first("ro.product.model"),
        soc=soc or first("ro.hardware.chipname", "ro.board.platform", "ro.hardware"),
        abi=abi,
        abis=tuple(dict.fromkeys(name for name in (*map(str.strip, listed), abi) if name)),
        sdk=_int(first("ro.build.version.sdk")),
        android_version=first("ro.build.version.release"),
        os_build=first("ro.build.fingerprint", "ro.build.display.id", "ro.build.id"),
    )


def parse_cpufreq(text: str) -> tuple[CpuPolicy, ...]:
    """Clusters by their first core's number, from lines ``policy4/scaling_cur_freq=1800000``.

    A cluster whose cores are not told, or that shares a core with another, is left out.
    """
    policies: dict[int, dict[str, str]] = {}
    for number, key, value in _CPUFREQ.findall(text):
        policies.setdefault(int(number), {}).setdefault(key, value)
    found: list[CpuPolicy] = []
    seen: set[int] = set()
    for number, values in sorted(policies.items()):
        cores = _cores(values.get("related_cpus", ""))
        if not cores or seen & set(cores):
            continue
        seen |= set(cores)
        current, allowed, hardware = (
            _khz(values.get(key, "")) for key in ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
        )
        found.append(CpuPolicy(number, cores, current, allowed, hardware))
    return tuple(found)


def parse_uptime(text: str) -> float | None:
    """Seconds since the start, from ``/proc/uptime``."""
    found = re.fullmatch(r"([0-9]{1,10}\.[0-9]{1,4}) [0-9]{1,12}\.[0-9]{1,4}", text.strip())
    return float(found[1]) if found else None


def parse_wakefulness(text: str) -> str | None:
    """``Awake``, ``Asleep``, ``Dreaming`` or ``Dozing``, from ``dumpsys power``."""
    found = _WAKEFULNESS.search(text)
    return found[1] if found else None


def parse_wall_clock(text: str) -> float | None:
    """Seconds since 1970 by the phone's clock, from ``date +%s.%N``; whole ones where it knows no ``%N``."""
    found = _SECONDS.fullmatch(text.strip())
    return float(found[1] + (found[2] or "")) if found else None


def parse_boot_id(text: str) -> str | None:
    """The identifier of the present start, from ``/proc/sys/kernel/random/boot_id``."""
    found = _BOOT_ID.fullmatch(text.strip().lower())
    return found[0] if found else None


def _temperature(value: str, kind: str, name: str, status: str) -> Temperature:
    celsius = float(value) if re.fullmatch(_NUMBER, value.strip()) else None
    return Temperature(
        name=_word(name) or "",
        kind=_int(kind),
        celsius=None if celsius is None else _celsius(celsius),
        status=_int(status),
    )


def _celsius(value: float) -> float | None:
    """A plausible temperature; vendors fill in 0.0 and -99.9 for "not there"."""
    plausible = math.isfinite(value) and -40 <= value <= 150 and value not in _UNKNOWN_CELSIUS
    return value if plausible else None


def _value(text: str, key: str) -> str | None:
    """What stands behind ``key:`` on a line of its own, the first time."""
    found = re.search(rf"^[ \t]*{re.escape(key)}:[ \t]*([^\n]*)$", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else None


def _int(value: str | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"-?[0-9]{1,10}", value.strip()) else None


def _bool(value: str | None) -> bool | None:
    return None if value is None else {"true": True, "false": False}.get(value.lower())


def _word(value: str) -> str | None:
    """One line of a name, at most 200 characters; None where it is empty or says "unknown"."""
    line = " ".join(value.split())[:200]
    return line if line and line.lower() != "unknown" else None


def _cores(value: str) -> tuple[int, ...]:
    words = value.split()
    if not all(len(word) <= 3 for word in words):
        return ()
    cores = tuple(sorted({int(word) for word in words}))
    return cores if len(cores) == len(words) and all(core < 64 for core in cores) else ()


def _khz(value: str) -> int | None:
    found = _int(value)
    return found if found is not None and 1_000 <= found <= 20_000_000 else None
