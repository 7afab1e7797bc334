"""What a phone says about its state, and what it lets be set: its raw answers, read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from device.conftest import Line, Phone

from android_bench.phone.conditions import BATTERY_COMMAND, BOOT_ID_COMMAND, CPUFREQ_COMMAND, THERMAL_COMMAND
from android_bench.phone.screen import SETTLE_S, wakefulness
from android_bench.phone.settings import SETTINGS
from android_bench.phone.text import parse_battery, parse_boot_id, parse_cpufreq, parse_thermal
from nasflow.base.text import plain_text

pytestmark = pytest.mark.phone

_STAY, _TIMEOUT = "stay_on_while_plugged_in", "screen_off_timeout"
_LOAD_S = 5
_SAMPLES = "cat /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq | tr '\\n' ' '; echo"
_MODE = f"""
{_SAMPLES}
cmd power set-fixed-performance-mode-enabled true >/dev/null 2>&1
echo $?
t=0
while [ $t -lt 20 ]; do {_SAMPLES}; sleep 0.1; t=$((t+1)); done
"""
# The loops end by themselves, too, should the connection break meanwhile.
_LOAD = f"""
pids=
c=0
while [ $c -lt $1 ]; do
  (i=0; while [ $i -lt 20000000 ]; do i=$((i+1)); done) >/dev/null 2>&1 &
  pids="$pids $!"
  c=$((c+1))
done
t=0
while [ $t -lt {2 * _LOAD_S} ]; do sleep 0.5; {_SAMPLES}; t=$((t+1)); done
kill -9 $pids
wait 2>/dev/null
"""


@pytest.mark.verifies(
    "Sentinels and spelling in `dumpsys thermalservice` of makers whose texts are not among the recorded ones"
)
def test_thermal_text(phone: Phone, line: Line) -> None:
    done = phone.run(*THERMAL_COMMAND)
    text = plain_text(done.stdout, limit=1_000_000)
    thermal = parse_thermal(text)
    raw = [" ".join(row.split()) for row in text.split("\n") if "emperature{" in row]
    line.found(
        f"status {thermal.status}, skin {thermal.skin_celsius} degrees Celsius, "
        f"{len(thermal.temperatures)} sensors; as in {raw[-1][:120] if raw else text[:120]!r}"
    )
    assert done.exit_code == 0
    assert thermal.status is not None
    assert thermal.temperatures


@pytest.mark.verifies("`dumpsys battery` of makers whose texts are not among the recorded ones")
def test_battery_text(phone: Phone, line: Line) -> None:
    done = phone.run(*BATTERY_COMMAND)
    battery = parse_battery(plain_text(done.stdout, limit=100_000))
    line.found(f"{battery.percent} %, {battery.celsius} degrees Celsius, powered: {battery.powered}")
    assert battery.percent is not None
    assert battery.powered is not None


@pytest.mark.verifies("The line of `dumpsys power` that says whether the phone is awake")
def test_wakefulness(phone: Phone, line: Line) -> None:
    text = plain_text(phone.run("dumpsys", "power").stdout, limit=1_000_000)
    found = re.findall(r"^\s*(mWakefulness(?:Raw)?=\w+)", text, re.MULTILINE)
    woken = phone.run("input", "keyevent", "KEYCODE_WAKEUP")
    after = re.findall(
        r"^\s*mWakefulness(?:Raw)?=(\w+)",
        plain_text(phone.run("dumpsys", "power").stdout, limit=1_000_000),
        re.MULTILINE,
    )
    line.found(f"{', '.join(found) or 'no such line'}; after KEYCODE_WAKEUP {', '.join(after)}")
    assert found
    assert woken.exit_code == 0
    assert set(after) == {"Awake"}


@pytest.mark.verifies("KEYCODE_SLEEP leaves `mWakefulness` other than Awake at once")
def test_sleep_key(phone: Phone, line: Line) -> None:
    slept = phone.run("input", "keyevent", "KEYCODE_SLEEP")
    state = wakefulness(phone.transport)
    woken = phone.run("input", "keyevent", "KEYCODE_WAKEUP")
    time.sleep(SETTLE_S)
    after = wakefulness(phone.transport)
    line.found(
        f"KEYCODE_SLEEP: exit code {slept.exit_code}, then {state}; KEYCODE_WAKEUP: exit code "
        f"{woken.exit_code}, after {SETTLE_S:g} s {after}"
    )
    assert state not in (None, "Awake")
    assert after == "Awake"


@pytest.mark.verifies("The clocks of a phone's cores may be read by its shell")
def test_clocks(phone: Phone, line: Line) -> None:
    policies = parse_cpufreq(plain_text(phone.run(*CPUFREQ_COMMAND).stdout, limit=100_000))
    told = [
        f"{policy.cores[0]}-{policy.cores[-1]}: {policy.allowed_max_khz} of {policy.hardware_max_khz} kHz"
        for policy in policies
    ]
    line.found(f"{len(policies)} clusters ({', '.join(told)})")
    assert policies
    assert all(policy.allowed_max_khz and policy.hardware_max_khz for policy in policies)
    assert parse_boot_id(plain_text(phone.run(*BOOT_ID_COMMAND).stdout, limit=100))


@pytest.mark.verifies("`taskset` with a mask binds a program to those cores")
def test_taskset(phone: Phone, line: Line) -> None:
    policies = parse_cpufreq(plain_text(phone.run(*CPUFREQ_COMMAND).stdout, limit=100_000))
    assert policies
    for policy in policies:
        mask = f"{sum(1 << core for core in policy.cores):x}"
        done = phone.run("taskset", mask, "grep", "Cpus_allowed:", "/proc/self/status")
        assert done.exit_code == 0, done
        allowed = done.stdout.split()[-1].decode().replace(",", "").lstrip("0")
        line.found(f"{mask}: {allowed}")
        if not phone.virtual:  # its cores are this computer's
            assert allowed == mask
    refused = phone.run("taskset", f"{1 << 40:x}", "true")
    assert refused.exit_code != 0


@pytest.fixture
def timeout_as_it_was(phone: Phone) -> Iterator[str]:
    before = plain_text(phone.run("settings", "get", "system", _TIMEOUT).stdout)
    yield before
    if before in ("", "null"):
        phone.run("settings", "delete", "system", _TIMEOUT)
    else:
        phone.run("settings", "put", "system", _TIMEOUT, before)
    assert plain_text(phone.run("settings", "get", "system", _TIMEOUT).stdout) == before


@pytest.mark.verifies("`settings put system screen_off_timeout`, and what a refused setting is answered with")
def test_screen_off_timeout(phone: Phone, line: Line, timeout_as_it_was: str) -> None:
    wanted = SETTINGS[_TIMEOUT].wanted
    put = phone.run(*SETTINGS[_TIMEOUT].put(wanted))
    now = plain_text(phone.run("settings", "get", "system", _TIMEOUT).stdout)
    words = plain_text(put.stderr or put.stdout, limit=120)
    said = f", {words!r}" if words else ""
    line.found(f"it was {timeout_as_it_was}, exit code {put.exit_code}{said}, then {now}; put back")
    assert (now == wanted) == (put.exit_code == 0)


@pytest.mark.verifies("How soon fixed-performance mode takes hold")
def test_fixed_performance(phone: Phone, line: Line, settings_as_they_were: str) -> None:
    done = phone.shell(_MODE)
    first, code, *rest = (row.split() for row in plain_text(done.stdout, limit=10_000).split("\n"))
    changed = next((0.1 * index for index, row in enumerate(rest) if row != first), None)
    line.found(
        f"exit code {code[0]}; scaling_max_freq in kHz before {[*map(int, first)]}, "
        + ("as before for 2 s" if changed is None else f"another after about {changed:.1f} s")
        + f", then {[*map(int, rest[-1])]}"
    )
    assert first
    assert len(rest) == 20


@pytest.fixture
def settings_as_they_were(phone: Phone) -> Iterator[str]:
    before = plain_text(phone.run("settings", "get", "global", _STAY).stdout)
    yield before
    phone.run("cmd", "power", "set-fixed-performance-mode-enabled", "false")
    if before in ("", "null"):
        phone.run("settings", "delete", "global", _STAY)
    else:
        phone.run("settings", "put", "global", _STAY, before)
    assert plain_text(phone.run("settings", "get", "global", _STAY).stdout) == before


@pytest.mark.verifies(
    "`cmd power set-fixed-performance-mode-enabled` and `settings put global stay_on_while_plugged_in` on "
    "phones of several makers"
)
def test_settings(phone: Phone, line: Line, settings_as_they_were: str) -> None:
    fixed = phone.run("cmd", "power", "set-fixed-performance-mode-enabled", "true")
    words = plain_text(fixed.stderr or fixed.stdout, limit=120)
    line.found(f"fixed performance: exit code {fixed.exit_code}{f', {words!r}' if words else ''}")
    put = phone.run("settings", "put", "global", _STAY, "15")
    now = plain_text(phone.run("settings", "get", "global", _STAY).stdout)
    line.found(f"stay awake: it was {settings_as_they_were}, exit code {put.exit_code}, then {now}; put back")
    assert (put.exit_code, now) == (0, "15")


@pytest.mark.verifies("A phone's sustained clock against its peak")
def test_sustained_clock(phone: Phone, line: Line) -> None:
    before = _khz(phone.shell(_SAMPLES).stdout)
    during = [
        _khz(row)
        for row in phone.shell(_LOAD, str(phone.cores), timeout_s=60).stdout.split(b"\n")
        if row.strip()
    ]
    after = _khz(phone.shell(f"sleep 2; {_SAMPLES}").stdout)
    assert before
    assert len(during) == 2 * _LOAD_S
    lowest = [min(column) for column in zip(*during, strict=True)]
    firsts = [
        next((0.5 * (index + 1) for index, khz in enumerate(column) if khz < peak), None)
        for peak, column in zip(before, zip(*during, strict=True), strict=True)
    ]
    line.found(
        f"{_LOAD_S} s of load on all {phone.cores} cores, scaling_max_freq in kHz: before {before}, lowest "
        f"{lowest} (first below after {firsts} s), 2 s later {after}"
    )


def _khz(row: bytes) -> list[int]:
    return [int(word) for word in row.split()]
