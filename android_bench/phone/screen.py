"""A phone that sleeps is woken before it is measured, and lies down again afterwards.

Asleep, a phone holds its clocks low, and on battery it may suspend: nothing runs then. A screen that is on
behind a keyguard is awake, and no more is needed. Android has two ways to be woken that differ in what
they need: a key press (makers may forbid it: on Xiaomi "USB debugging (Security settings)") and the power
manager's own command (AOSP ``PowerManagerShellCommand``, Android 13).
"""

from __future__ import annotations

from collections.abc import Callable

from android_bench.phone.conditions import AWAKE, POWER_COMMAND
from android_bench.phone.text import parse_wakefulness
from android_bench.transport import Completed, Transport
from nasflow.base.errors import NoUsableDeviceError
from nasflow.base.text import plain_text

WAYS_TO_WAKE = (("input", "keyevent", "KEYCODE_WAKEUP"), ("cmd", "power", "wakeup"))
SLEEP_COMMAND = ("input", "keyevent", "KEYCODE_SLEEP")
SETTLE_S = 1.0
"""From the command to a screen that is on."""

_TIMEOUT_S = 20.0


def wakefulness(transport: Transport) -> str | None:
    """``Awake``, ``Asleep``, ``Dreaming`` or ``Dozing``; None where the phone does not tell."""
    done = transport.run(POWER_COMMAND, timeout_s=_TIMEOUT_S)
    return parse_wakefulness(plain_text(done.stdout)) if done.exit_code == 0 else None


def is_asleep(transport: Transport) -> bool:
    """Whether the phone says that it is not awake."""
    return wakefulness(transport) not in (None, AWAKE)


def wake_up(transport: Transport, *, sleep: Callable[[float], None]) -> None:
    """Have it awake, where its wakefulness can be read at all.

    Raises NoUsableDeviceError where it stays asleep after each of the ways to wake it, DeviceLostError.
    """
    reason = ""
    for way in WAYS_TO_WAKE:
        if not is_asleep(transport):
            return
        done = transport.run(way, timeout_s=_TIMEOUT_S)
        reason = reason or refusal(done)
        sleep(SETTLE_S)
    state = wakefulness(transport)
    if state in (None, AWAKE):
        return
    raise NoUsableDeviceError(
        f"the phone cannot be woken (mWakefulness={state}){f': {reason}' if reason else ''}.",
        hint="Press its power button, plug it in, and start again: it then stays awake. On Xiaomi phones "
        "also switch on 'USB debugging (Security settings)'.",
        raw=reason,
    )


def refusal(done: Completed) -> str:
    """Why a command of Android's failed, in one line; empty where it did not."""
    lines = [line.strip() for line in plain_text(done.stderr + b"\n" + done.stdout).split("\n")]
    named = next((line for line in lines if "Exception: " in line), "")
    if named or done.exit_code != 0:
        return (named or next(filter(None, lines), "") or f"exit code {done.exit_code}")[:200]
    return ""
