"""Whether a phone has Android's fixed-performance mode: a part of what its latencies are of.

Sources: AOSP ``PowerManagerShellCommand.runSetFixedPerformanceModeEnabled`` (exit code 0; else -1, which is
255, and "Failed to set FIXED_PERFORMANCE mode" on standard error), and ``AidlHalWrapper::setMode`` in
frameworks/native, which asks the vendor's HAL ``isModeSupported`` before it switches a mode on or off.
Makers may answer otherwise to "off" than to "on", so that "on" is what is asked; one command switches it off
again at once, on a phone that nobody measures on.
"""

from __future__ import annotations

from android_bench.transport import FOLDER, Transport
from nasflow.base.text import plain_text

ANSWER = f"{FOLDER}/fixed-performance"
"""Lies on the phone while a run measures on it, for another that asks meanwhile: "true" or "false"."""

_SET = "cmd power set-fixed-performance-mode-enabled"
ASK = ("sh", "-c", f"{_SET} true; code=$?; {_SET} false >/dev/null 2>&1; exit $code")
"""Switches it on and off again: the exit code and the words are those of "on"."""

_TIMEOUT_S = 20.0
_SAID = {"true": True, "false": False}


def has_fixed_performance(transport: Transport) -> tuple[bool, str]:
    """Whether the phone goes into the mode, and what it says where it does not. Raises DeviceLostError.

    A phone on which a run measures is not asked, for that would end the mode: the run's note is read.
    """
    noted = transport.run(("cat", ANSWER), timeout_s=_TIMEOUT_S)
    known = _SAID.get(plain_text(noted.stdout, limit=10)) if noted.exit_code == 0 else None
    if known is not None:
        return known, ""
    done = transport.run(ASK, timeout_s=_TIMEOUT_S)
    if done.exit_code == 0:
        return True, ""
    words = plain_text(done.stderr or done.stdout, limit=200).replace("\n", " ")
    return False, words or f"exit code {done.exit_code}"


def note_answer(transport: Transport, answer: bool) -> None:
    """Leave the answer on the phone before the mode is switched on, or once it is refused. Raises
    DeviceLostError.

    Where it cannot be written, another run may ask and end the mode: this run's clocks then show it.
    """
    script = 'mkdir -p "${1%/*}" && echo "$2" >"$1"'
    transport.run(("sh", "-c", script, "sh", ANSWER, str(answer).lower()), timeout_s=_TIMEOUT_S)


def forget_answer(transport: Transport) -> None:
    """Take it away, after the mode was switched off. Raises DeviceLostError."""
    transport.run(("rm", "-f", ANSWER), timeout_s=_TIMEOUT_S)
