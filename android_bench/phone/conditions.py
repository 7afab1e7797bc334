"""The phone's state around a measurement: read, judged, waited for, compared.

What cannot be read is None and is judged by nothing: a phone that does not tell its temperature is
measured, and the record says "unknown". What somebody has set by hand is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from android_bench.device import Conditions, CpuPolicy
from android_bench.phone.clocks import held_back
from android_bench.phone.text import (
    Battery,
    Thermal,
    parse_battery,
    parse_boot_id,
    parse_cpufreq,
    parse_thermal,
    parse_uptime,
    parse_wakefulness,
    parse_wall_clock,
)
from android_bench.transport import Transport
from nasflow.base.errors import NoUsableDeviceError
from nasflow.base.text import plain_text

THERMAL_COMMAND = ("dumpsys", "thermalservice")
BATTERY_COMMAND = ("dumpsys", "battery")
UPTIME_COMMAND = ("cat", "/proc/uptime")
BOOT_ID_COMMAND = ("cat", "/proc/sys/kernel/random/boot_id")
DATE_COMMAND = ("date", "+%s.%N")
POWER_COMMAND = ("sh", "-c", "dumpsys power | grep mWakefulness=")
"""The one line of it that is read (:func:`parse_wakefulness`): the whole has tens of KB."""
CPUFREQ_COMMAND = (
    "sh",
    "-c",
    "cd /sys/devices/system/cpu/cpufreq && for p in policy*; do "
    "for f in related_cpus scaling_cur_freq scaling_max_freq cpuinfo_max_freq; do "
    'v=; { read -r v <"$p/$f"; } 2>/dev/null; echo "$p/$f=$v"; done; done',
)
"""Prints ``policy4/scaling_cur_freq=1800000``, four lines for each cluster (:func:`parse_cpufreq`)."""

AWAKE = "Awake"
_TEXT_CHARACTERS = 1_000_000
_TIMEOUT_S = 20.0
_CLOCK_SLACK_S = 1.0
"""How far a phone's clock may run from its uptime in a stretch: Android sets it by 2 s or more
(``ServiceConfigAccessor``), and a phone whose ``date`` knows no fractions may be off by one second."""
MOST_THERMAL_STATUS = 3
"""The highest that ``android.max_thermal_status`` may be."""
_THERMAL_WORDS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@dataclass(frozen=True)
class Limits:
    """What a phone must keep to be measured."""

    min_battery_percent: float = 30.0
    max_thermal_status: int = 0
    cooling_s: float = 600.0


@dataclass(frozen=True)
class Reading:
    """The phone's state at one moment. None, or no policies: could not be read."""

    at: datetime
    thermal: Thermal | None
    battery: Battery | None
    policies: tuple[CpuPolicy, ...]
    uptime_s: float | None
    boot_id: str | None
    wall_s: float | None = None
    wakefulness: str | None = None

    @property
    def awake(self) -> bool | None:
        """Whether the screen is on and no screen saver runs; None where that is not told."""
        return None if self.wakefulness is None else self.wakefulness == AWAKE

    def conditions(self) -> Conditions:
        """What is stored with a measurement. The clock rate is the fastest cluster's."""
        current = [policy.current_khz for policy in self.policies if policy.current_khz is not None]
        return Conditions(
            at=self.at,
            cpu_mhz=max(current) / 1000 if current else None,
            skin_celsius=self.thermal.skin_celsius if self.thermal else None,
            thermal_status=self.thermal.status if self.thermal else None,
            battery_percent=self.battery.percent if self.battery else None,
            awake=self.awake,
        )


def read_conditions(
    transport: Transport,
    *,
    now: Callable[[], datetime] | None = None,
    of: Collection[tuple[str, ...]] | None = None,
) -> Reading:
    """Ask the phone; some short commands, or those ``of`` them.

    Raises DeviceLostError, NoUsableDeviceError.
    """
    return reading_of(lambda argv: _ask(transport, argv) if of is None or argv in of else None, at=now)


def read_clocks(transport: Transport) -> tuple[CpuPolicy, ...]:
    """The clusters and their clocks now; none where they are not told. Raises DeviceLostError."""
    text = _ask(transport, CPUFREQ_COMMAND)
    return () if text is None else parse_cpufreq(text)


def reading_of(
    ask: Callable[[tuple[str, ...]], str | None], *, at: datetime | Callable[[], datetime] | None = None
) -> Reading:
    """A reading from what each of the commands printed; None: it failed. ``at`` None is now."""
    thermal = ask(THERMAL_COMMAND)
    battery = ask(BATTERY_COMMAND)
    cpufreq = ask(CPUFREQ_COMMAND)
    wall, uptime, boot_id = ask(DATE_COMMAND), ask(UPTIME_COMMAND), ask(BOOT_ID_COMMAND)
    power = ask(POWER_COMMAND)
    if at is None:
        at = datetime.now(UTC)
    return Reading(
        at=at if isinstance(at, datetime) else at(),
        thermal=None if thermal is None else parse_thermal(thermal),
        battery=None if battery is None else parse_battery(battery),
        policies=() if cpufreq is None else parse_cpufreq(cpufreq),
        uptime_s=None if uptime is None else parse_uptime(uptime),
        boot_id=None if boot_id is None else parse_boot_id(boot_id),
        wall_s=None if wall is None else parse_wall_clock(wall),
        wakefulness=None if power is None else parse_wakefulness(power),
    )


def too_hot(reading: Reading, limits: Limits) -> str | None:
    """Why the phone must cool down first, or None."""
    status = reading.thermal.status if reading.thermal else None
    if status is None or status <= limits.max_thermal_status:
        return None
    skin = reading.thermal.skin_celsius if reading.thermal else None
    return f"thermal status {status} ({_THERMAL_WORDS[status]})" + (
        "" if skin is None else f", skin {skin:.1f} degrees Celsius"
    )


def check_usable(reading: Reading, limits: Limits) -> None:
    """Refuse what waiting does not mend.

    Raises NoUsableDeviceError: a state set by hand, an empty battery.
    """
    if reading.thermal is not None and reading.thermal.overridden:
        raise NoUsableDeviceError(
            "the phone's thermal status is set by hand (IsStatusOverride: true): it hides throttling.",
            hint="Undo it: adb shell cmd thermalservice reset",
        )
    battery = reading.battery
    if battery is not None and battery.updates_stopped:
        raise NoUsableDeviceError(
            "the phone's battery state is set by hand (UPDATES STOPPED): its charge is not known.",
            hint="Undo it: adb shell dumpsys battery reset",
        )
    if battery is not None and battery.percent is not None and battery.percent < limits.min_battery_percent:
        raise NoUsableDeviceError(
            f"the phone's battery is at {battery.percent:.0f} %, below {limits.min_battery_percent:.0f} %: "
            "phones run slower below it.",
            hint="Charge it, or lower android.min_battery_percent.",
        )


def wait_until_ready(
    transport: Transport,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = lambda _text: None,
    pause_s: float = 10.0,
    fastest: Sequence[CpuPolicy] = (),
) -> Reading:
    """Read until the phone is cool and return that reading; ``tell`` hears once why it waits.

    ``fastest`` is how its cores might run before. Held back, they are waited for as long; then that is how
    this phone is now (its owner may save power), and it is returned. Raises NoUsableDeviceError where it
    stays hot for ``limits.cooling_s`` or cannot be used at all (see :func:`check_usable`), DeviceLostError.
    """
    until = clock() + limits.cooling_s
    reported = False
    while True:
        reading = read_conditions(transport)
        check_usable(reading, limits)
        state, reason = "is too hot", too_hot(reading, limits)
        if reason is None:
            state, reason = "throttles", held_back(fastest, reading.policies)
        if reason is None:
            return reading
        left_s = until - clock()
        if left_s <= 0 and state == "throttles":
            tell(
                f"The phone still throttles after {limits.cooling_s:.0f} s, and is measured in this state: "
                f"{reason}."
            )
            return reading
        if left_s <= 0:
            raise NoUsableDeviceError(
                f"the phone is still too hot after {limits.cooling_s:.0f} s: {reason}.",
                hint="Take it out of its case and out of the sun, let it cool, or raise "
                "android.cooling_minutes." + _status_advice(reading),
            )
        if not reported:
            tell(f"The phone {state}: {reason}. Waiting up to {limits.cooling_s / 60:.0f} min.")
            reported = True
        sleep(min(pause_s, left_s))


def disturbance(before: Reading, after: Reading, limits: Limits) -> str | None:
    """Why what was measured between two readings must be dropped, or None.

    A reboot, a clock that was set, a phone asleep, a state set by hand, or a thermal status above the limit.
    Clocks of cores are judged by :class:`~android_bench.phone.clocks.Clocks`.
    """
    if rebooted(before, after):
        return "the phone has restarted"
    if reason := clock_set(before, after) or asleep(before, after):
        return reason
    if (after.thermal and after.thermal.overridden) or (after.battery and after.battery.updates_stopped):
        return "the phone's state was set by hand"
    for reading in (before, after):
        if reason := too_hot(reading, limits):
            return f"the phone throttles: {reason}"
    return None


def asleep(*readings: Reading) -> str | None:
    """Which of the readings was of a phone that slept, or None. What is not told counts as awake."""
    for reading in readings:
        if reading.awake is False:
            return (
                f"the phone was not awake (mWakefulness={reading.wakefulness}): plug it in and unlock it, so "
                "that its screen stays on"
            )
    return None


def clock_set(before: Reading, after: Reading) -> str | None:
    """That the phone's clock was set in between, or None: ``benchmark_model`` takes its times from it."""
    if before.wall_s is None or after.wall_s is None or before.uptime_s is None or after.uptime_s is None:
        return None
    if rebooted(before, after):
        return None
    jump_s = (after.wall_s - before.wall_s) - (after.uptime_s - before.uptime_s)
    if abs(jump_s) <= _CLOCK_SLACK_S:
        return None
    return f"the phone's clock was set {'forward' if jump_s > 0 else 'back'} by {abs(jump_s):.0f} s"


def rebooted(before: Reading, after: Reading) -> bool:
    """Whether the phone has started anew in between; by boot id, else by uptime, else it is not known."""
    if before.boot_id is not None and after.boot_id is not None:
        return before.boot_id != after.boot_id
    if before.uptime_s is not None and after.uptime_s is not None:
        return after.uptime_s < before.uptime_s
    return False


def _status_advice(reading: Reading) -> str:
    status = reading.thermal.status if reading.thermal else None
    if status is None or status > MOST_THERMAL_STATUS:
        return ""
    return f" With android.max_thermal_status: {status} it is measured in this state, which is recorded."


def _ask(transport: Transport, argv: tuple[str, ...]) -> str | None:
    """What a command prints; None where the phone does not have it or does not allow it."""
    done = transport.run(argv, timeout_s=_TIMEOUT_S)
    if done.exit_code != 0:
        return None
    return plain_text(done.stdout, limit=_TEXT_CHARACTERS)
