"""One run at a time on one phone: a folder on it that says who measures, for others to respect.

Whoever makes the folder measures, and says again and again that it is still there. A lock whose process on
this computer has ended is taken over, and none whose process is seen to live here: its cable may be out. Of
any other, who has not renewed it for :data:`STALE_S` seconds is gone: what SIGKILL left behind keeps nobody
out. Time is the phone's uptime: its clock may be set by hours at any moment.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from android_bench.transport import FOLDER, Completed, Transport
from nasflow.base.errors import DeviceError, NoUsableDeviceError
from nasflow.base.processes import process_exists
from nasflow.base.text import plain_text

LOCK = f"{FOLDER}/lock"
STALE_S = 120
"""By the phone's uptime. A client that is away for longer finds its phone free, or taken by another."""

_START_S = 60
"""What a phone's start may take until those who were connected before can renew their lock."""
_RENEW_S = 15.0
_LOOK_AGAIN_S = 3.0
_RACE_S = 0.5
_ATTEMPTS = 5
_TIMEOUT_S = 20.0
_OURS, _NEW, _TAKEN, _RACE = 0, 10, 11, 12
_ENDED = ("Z", "X", "x")  # nobody has asked yet how it ended

# Words: lock, owner, a token that is new each time, then nothing, or "replace" and the owner that may be, or
# "force" for one that cannot be read. mkdir succeeds for one of several. Who replaces a lock keeps others
# from doing so at the same time by a second folder, named by the minute so that one left behind counts for
# no longer. A phone that hides its uptime tells when this shell was started (proc(5): field 22 of stat).
_TAKE_SCRIPT = f"""\
started() {{ shift 21; echo $(($1 / 100)); }}
{{ read -r now rest </proc/uptime; }} 2>/dev/null || now=
now=${{now%%.*}}
[ -n "$now" ] || {{ now=$(cat /proc/$$/stat 2>/dev/null) && now=$(started $now); }}
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
seen="${{boot:-unknown}} ${{now:-unknown}} $3"
put() {{ echo "$2" >"$1.part" && mv -f "$1.part" "$1"; }}
make() {{
  why=$(mkdir "$1" 2>&1) || return {_RACE}
  put "$1/seen" "$seen" && put "$1/owner" "$2" && return {_NEW}
  rm -rf "$1"
  return 1
}}
mkdir -p "${{1%/*}}" || exit 1
make "$1" "$2"
code=$?
[ $code = {_RACE} ] || exit $code
if [ ! -d "$1" ]; then
  case $why in *exist*) exit {_RACE} ;; esac  # it was there, and was deleted since
  echo "$why"
  exit 1
fi
found=$(cat "$1/owner" 2>/dev/null)
if [ "$found" = "$2" ]; then
  put "$1/seen" "$seen"
  exit {_OURS}
fi
if [ -n "$4" ]; then
  guard=$1.at-${{boot%%-*}}-$((now / 60))
  mkdir "$guard" 2>/dev/null || exit {_RACE}
  code={_RACE}
  if [ "$4" = force ] || [ "$(cat "$1/owner" 2>/dev/null)" = "$5" ]; then
    rm -rf "$1"
    make "$1" "$2"
    code=$?
  fi
  rm -rf "$guard"
  exit $code
fi
echo "$seen"
cat "$1/seen" 2>/dev/null || echo
echo "$found"
exit {_TAKEN}
"""
_RELEASE_SCRIPT = 'if [ "$(cat "$1/owner" 2>/dev/null)" = "$2" ]; then rm -rf "$1" "$1".[0-9a]*; fi'

_OWNER = re.compile(r"run ([0-9a-f]{16}) ([0-9]{1,10}) ([0-9]{1,20}) ([A-Za-z0-9._-]{1,40})")
_SEEN = re.compile(r"([0-9a-f-]{36}|unknown) ([0-9]{1,11}) [0-9a-f]{1,20}")


@dataclass(frozen=True)
class Owner:
    """Who measures: a process of a computer. ``computer`` is a hash that changes when that one restarts."""

    computer: str
    pid: int
    started: int
    name: str

    @classmethod
    def of_this_process(cls) -> Self:
        """This process."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node())[:40] or "unnamed"
        return cls(_this_computer(), os.getpid(), (_process(os.getpid()) or ("", 0))[1], name)

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """The owner that a line on a phone names; None for anything else."""
        found = _OWNER.fullmatch(line)
        return cls(found[1], int(found[2]), int(found[3]), found[4]) if found else None

    def line(self) -> str:
        """What stands on the phone."""
        return f"run {self.computer} {self.pid} {self.started} {self.name}"

    def has_ended(self) -> bool:
        """Whether this is a process of this computer that is no more; False where that cannot be known."""
        if not self._is_here():
            return False
        if not process_exists(self.pid):
            return True
        now = _process(self.pid)
        return now is not None and (now[0] in _ENDED or now[1] != self.started)

    def is_alive(self) -> bool:
        """Whether this is a process of this computer that is there; False where that cannot be known."""
        now = _process(self.pid) if self._is_here() else None
        return now is not None and now[0] not in _ENDED and now[1] == self.started

    def _is_here(self) -> bool:
        return self.computer == _this_computer() and os.name != "nt"  # there, signal 0 is not a question

    def describe(self) -> str:
        """``process 4711 on this computer``."""
        here = self.computer == _this_computer()
        return f"process {self.pid} on {'this computer' if here else self.name}"


class PhoneLock:
    """The lock of one phone. ``held``: it was ours when we last looked.

    Times are by ``clock`` here and by the phone's uptime there, so that no two clocks are compared.
    """

    def __init__(
        self,
        *,
        owner: Owner | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._owner = owner or Owner.of_this_process()
        self._clock, self._sleep = clock, sleep
        self._renewed = 0.0
        self.held = False

    def take(self, transport: Transport) -> bool:
        """Have it, or say that we still do. Returns whether it is new: another may have been here meanwhile.

        Raises NoUsableDeviceError where another run measures, DeviceLostError, DeviceError.
        """
        replace: tuple[str, ...] = ()
        unreadable: str | None = None
        for _ in range(_ATTEMPTS):
            beat = secrets.token_hex(8)
            done = _run(transport, _TAKE_SCRIPT, LOCK, self._owner.line(), beat, *replace)
            if done.exit_code in (_OURS, _NEW):
                self.held, self._renewed = True, self._clock()
                return done.exit_code == _NEW
            self.held = False
            replace = ()
            if done.exit_code == _RACE:
                self._sleep(_RACE_S)
                continue
            if done.exit_code != _TAKEN:
                _fail(transport, done)
            answer = plain_text(done.stdout, limit=1000)
            now, seen, line = (*answer.split("\n"), "", "")[:3]
            owner = Owner.parse(line)
            age_s = _age_s(now, seen)
            rest = answer.partition("\n")[2]
            if owner is None:  # being made at this moment, or damaged
                if rest == unreadable:
                    replace = ("force",)
                else:
                    unreadable = rest
                    self._sleep(_LOOK_AGAIN_S)
                continue
            lives = owner.is_alive()
            is_over = owner.has_ended() or (not lives and age_s is not None and age_s > STALE_S)
            if not (is_over or lives) and age_s is None:  # no time: it is over if nobody renews it meanwhile
                if unreadable is None:
                    unreadable = rest
                    self._sleep(STALE_S)
                    continue
                is_over = rest == unreadable
            if not is_over:
                heard = "" if age_s is None else f", last active {max(0, age_s)} s ago"
                raise NoUsableDeviceError(
                    f"{transport.serial} is being measured by another run: {owner.describe()}{heard}.",
                    hint="Wait until that run has ended, or stop it; two runs at once would disturb each "
                    "other's "
                    + (
                        f"timings. It is still running; 'kill {owner.pid}' stops it."
                        if lives
                        else f"timings. The lock of a run that has ended expires after {STALE_S} s."
                    ),
                )
            replace = ("replace", line)
        raise NoUsableDeviceError(
            f"several runs are trying to lock {transport.serial}.", hint="Try again in a minute."
        )

    def renew(self, transport: Transport) -> None:
        """Say that we are still here, where the last time is a while ago. Raises as :meth:`take`."""
        if self._clock() - self._renewed >= _RENEW_S:
            self.take(transport)

    def look(self, transport: Transport) -> None:
        """Find out whether it is still ours (``held``). Raises DeviceLostError."""
        done = transport.run(["cat", f"{LOCK}/owner"], timeout_s=_TIMEOUT_S)
        self.held = done.exit_code == 0 and plain_text(done.stdout, limit=200) == self._owner.line()

    def release(self, transport: Transport) -> None:
        """Give it back, unless another has it. Raises DeviceLostError."""
        self.held = False
        _run(transport, _RELEASE_SCRIPT, LOCK, self._owner.line())


def _age_s(now: str, seen: str) -> int | None:
    """How long a lock has not been renewed; None where the phone does not tell, or a note is damaged.

    One from before the phone's last start has not been renewed since that, less what a start takes.
    """
    here, there = _SEEN.fullmatch(now), _SEEN.fullmatch(seen)
    if here is None or there is None:
        return None
    uptime_s, seen_s = int(here[2]), int(there[2])
    return uptime_s - seen_s if here[1] == there[1] and seen_s <= uptime_s else uptime_s - _START_S


def _run(transport: Transport, script: str, *words: str) -> Completed:
    return transport.run(["sh", "-c", script, "sh", *words], timeout_s=_TIMEOUT_S)


def _fail(transport: Transport, done: Completed) -> None:
    reason = plain_text(done.stderr or done.stdout, limit=300) or "no reason given"
    raise DeviceError(
        f"{LOCK} cannot be created on {transport.serial} (exit code {done.exit_code}): {reason}.",
        hint=f"Check {FOLDER} on the phone: is there free space, and can the shell write to it?",
        raw=reason,
    )


@cache
def _this_computer() -> str:
    """This computer since its last start; where the system does not tell of that, its name alone."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        identity = platform.node()
    return hashlib.sha256(f"{identity} {_namespace()}".encode()).hexdigest()[:16]


def _namespace() -> str:
    """The namespace of process numbers: in a container, they are others than outside."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, int] | None:
    """A process's state, and when it began in ticks since the computer's start; None where that is not told.

    Fields 3 and 22 of its stat (proc(5)).
    """
    try:
        after_name = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        )
        fields = after_name.split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
