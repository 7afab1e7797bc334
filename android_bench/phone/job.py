"""A list of timings as one detached job on the phone: it goes on while the cable is out.

The job lies in a folder of its own. Its script times model after model in stretches, and writes the phone's
state before and after each stretch, so that a stretch can be judged whoever was connected meanwhile. Files
are written under other names and renamed: what has its name is whole. ``0007.0.txt`` is what timing 7
printed when it ended with exit code 0, ``0007.pb`` its result file, ``0002.after`` ends stretch 2, and
``0002.clocks`` has the clocks of its cores after the warm-up and right after each timing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from android_bench.phone.clocks import Policies, WarmUp
from android_bench.phone.conditions import (
    UPTIME_COMMAND,
    Reading,
    read_conditions,
    reading_of,
)
from android_bench.phone.job_script import POLL, START, STATE_COMMANDS, STOP, job_script
from android_bench.phone.text import parse_cpufreq
from android_bench.transport import FOLDER, Completed, Transport, quote
from nasflow.base.errors import DeviceError
from nasflow.base.text import plain_text

MAX_TIMINGS = 500
"""A job's folder stays small: a longer list becomes several jobs."""

_FOLDER_NAME = re.compile(r"job-[0-9a-f]{32}")
_TEXT_NAME = re.compile(r"([0-9]{4})\.([0-9]{1,3})\.txt")
_RESULT_NAME = re.compile(r"([0-9]{4})\.pb")
_AFTER_NAME = re.compile(r"([0-9]{4})\.after")
_KEY_LINE = re.compile(r"([0-9]{1,4}) ([0-9a-f]{64})")
_TIMEOUT_S = 30.0
_MAX_LISTING = 1_000_000


@dataclass(frozen=True)
class Progress:
    """What a look into the job's folder shows: exit codes by timing, result files, finished stretches."""

    alive: bool
    codes: Mapping[int, int]
    results: frozenset[int]
    finished: frozenset[int]


@dataclass(frozen=True)
class PhoneJob:
    """A job's folder, and its stretches: (first, end) of the timings of each.

    ``commands`` are command lines that write ``result.pb``; none for the job of another client, which can
    be watched and read, but not started. ``warm_up`` runs before each stretch, and is no part of the name.
    """

    folder: str
    stretches: tuple[tuple[int, int], ...]
    keys: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...] = ()
    warm_up: WarmUp | None = None

    @classmethod
    def of(
        cls,
        commands: Sequence[tuple[str, ...]],
        stretches: Sequence[tuple[int, int]],
        *,
        keys: Sequence[str] | None = None,
    ) -> Self:
        """The job that does this; equal work has an equal name. ``keys`` are those of :func:`keys_of`."""
        if not 0 < len(commands) <= MAX_TIMINGS:
            raise ValueError(f"a job has 1 to {MAX_TIMINGS} timings, not {len(commands)}")
        keys = keys_of(commands) if keys is None else tuple(keys)
        identity = "\n".join([*keys, repr(tuple(stretches))])
        name = "job-" + hashlib.sha256(identity.encode()).hexdigest()[:32]
        return cls(f"{FOLDER}/{name}", tuple(stretches), keys, tuple(commands))

    @classmethod
    def left_in(cls, transport: Transport, folder: str) -> Self | None:
        """The job that an earlier client has left in a folder; None where the folder is damaged."""
        done = _run(transport, "cat", f"{_checked(folder)}/keys")
        if done.exit_code != 0:
            return None
        lines = plain_text(done.stdout, limit=80 * MAX_TIMINGS).split("\n")
        found = [_KEY_LINE.fullmatch(line) for line in lines]
        keys = tuple(match[2] for match in found if match)
        numbers = [int(match[1]) for match in found if match]
        cuts = [index for index, number in enumerate(numbers) if index == 0 or number != numbers[index - 1]]
        if len(keys) != len(lines) or [numbers[cut] for cut in cuts] != list(range(len(cuts))):
            return None
        return cls(folder, tuple(zip(cuts, [*cuts[1:], len(keys)], strict=True)), keys)

    @property
    def token(self) -> str:
        """What separates the parts of a state file."""
        return self.folder.rpartition("-")[2]

    def script(self) -> str:
        """The job as a shell script."""
        return job_script(self.folder, self.token, self.stretches, self.commands, self.warm_up)

    def start(self, transport: Transport, start_token: str = "") -> None:
        """Start it, or go on behind the stretches that are finished. Whatever ran of it ends first.

        Called again with the same ``start_token`` (hexadecimal), because the answer was lost, it leaves alone
        what the first call has started. Raises DeviceLostError, and DeviceError where the phone does not
        start it.
        """
        _do(transport, "mkdir", "-p", self.folder)
        keys = "".join(
            f"{number} {key}\n"
            for number, (first, end) in enumerate(self.stretches)
            for key in self.keys[first:end]
        )
        for name, text in (("run.sh", self.script()), ("keys", keys)):
            part = f"{self.folder}/{name}.{secrets.token_hex(4)}.part"
            transport.push(text.encode(), part, timeout_s=_TIMEOUT_S)
            _do(transport, "mv", "-f", part, f"{self.folder}/{name}")
        done = _run(transport, "sh", "-c", START, "sh", self.folder, start_token or secrets.token_hex(8))
        if done.exit_code != 0:
            words = plain_text(done.stderr or done.stdout, limit=300)
            raise DeviceError(
                f"the phone cannot start a detached job (exit code {done.exit_code}): "
                f"{words or 'no reason given'}.",
                hint="It needs sh, setsid, nohup and tr, which Android has since version 6. A simulated "
                "phone needs bubblewrap.",
                raw=words,
            )

    def poll(self, transport: Transport) -> Progress:
        """How far it is. A folder that is not there is a job that has not begun. Raises DeviceLostError."""
        done = _run(transport, "sh", "-c", POLL, "sh", self.folder)
        command_line, _, listing = plain_text(done.stdout, limit=_MAX_LISTING).partition("==")
        codes: dict[int, int] = {}
        finished, results = set(), set()
        for name in listing.split("\n") if done.exit_code == 0 else []:
            if text := _TEXT_NAME.fullmatch(name):
                codes[int(text[1])] = int(text[2])
            elif after := _AFTER_NAME.fullmatch(name):
                finished.add(int(after[1]))
            elif result := _RESULT_NAME.fullmatch(name):
                results.add(int(result[1]))
        alive = done.exit_code == 0 and f"{self.folder}/run.sh" in command_line
        return Progress(alive, codes, frozenset(results), frozenset(finished))

    def readings(self, transport: Transport, stretch: int) -> tuple[Reading, Reading]:
        """The phone's state before and after a finished stretch. Raises DeviceLostError, DeviceError."""
        before, after = (
            self._reading(_cat(transport, f"{self.folder}/{stretch:04d}.{moment}"))
            for moment in ("before", "after")
        )
        now = read_conditions(transport, of=(UPTIME_COMMAND,))
        return _dated(before, now), _dated(after, now)

    def begun(self, transport: Transport, stretch: int = 0) -> Reading | None:
        """The phone's state before a stretch that may go on yet; None where it was not told, or is damaged.

        Raises DeviceLostError.
        """
        done = _run(transport, "cat", f"{self.folder}/{stretch:04d}.before")
        try:
            return self._reading(done.stdout) if done.exit_code == 0 else None
        except DeviceError:
            return None

    def clocks(self, transport: Transport, stretch: int) -> Mapping[str, Policies]:
        """The clocks of a finished stretch: ``load`` after its warm-up, ``0007`` after timing 7.

        None of a job of before they were written. Raises DeviceLostError.
        """
        done = _run(transport, "cat", f"{self.folder}/{stretch:04d}.clocks")
        text = plain_text(done.stdout, limit=_MAX_LISTING) if done.exit_code == 0 else ""
        found: dict[str, Policies] = {}
        for part in re.split(rf"^== {self.token} ", text, flags=re.M)[1:]:
            name, _, lines = part.partition("\n")
            found[name] = parse_cpufreq(lines)
        return found

    def output(self, transport: Transport, index: int, progress: Progress) -> tuple[Completed, bytes | None]:
        """What a finished timing printed, and its result file; None where it left none.

        Raises DeviceLostError, and DeviceError where the files are gone.
        """
        code = progress.codes.get(index, 0)
        text = _cat(transport, f"{self.folder}/{index:04d}.{code}.txt")
        result = None
        if index in progress.results:  # pulled: a shell of old may change bytes
            result = transport.pull(f"{self.folder}/{index:04d}.pb", timeout_s=_TIMEOUT_S)
        return Completed(text, b"", code), result

    def drop(self, transport: Transport, stretch: int) -> None:
        """Take a stretch's end away: the next start takes it again. Stop the job first."""
        _do(transport, "rm", "-f", f"{self.folder}/{stretch:04d}.after")

    def stop(self, transport: Transport) -> None:
        """End it with all that it has started; what it has finished stays."""
        stop_folder(transport, self.folder)

    def _reading(self, content: bytes) -> Reading:
        _, *parts = re.split(rf"^== {self.token} ", plain_text(content, limit=_MAX_LISTING), flags=re.M)
        if len(parts) != len(STATE_COMMANDS):
            raise DeviceError(
                f"a note of the phone's state is damaged: {len(parts)} of {len(STATE_COMMANDS)} parts.",
                hint="Check whether the phone's storage is full, then measure again.",
                raw=plain_text(content),
            )
        answers: dict[tuple[str, ...], str | None] = {}
        for words, part in zip(STATE_COMMANDS, parts, strict=True):
            code, _, text = part.partition("\n")
            answers[words] = text if code.strip() == "0" else None
        return reading_of(answers.__getitem__)


def _dated(reading: Reading, now: Reading) -> Reading:
    """A reading at its moment by this computer's clock, from how long the phone has run since."""
    if reading.uptime_s is None or now.uptime_s is None or now.uptime_s < reading.uptime_s:
        return reading
    return replace(reading, at=now.at - timedelta(seconds=now.uptime_s - reading.uptime_s))


def left_jobs(transport: Transport) -> tuple[str, ...]:
    """Folders of jobs on the phone, of this or of an earlier client."""
    listed = _run(transport, "ls", "-1", FOLDER)
    names = plain_text(listed.stdout, limit=_MAX_LISTING).split("\n") if listed.exit_code == 0 else []
    return tuple(sorted(f"{FOLDER}/{name}" for name in names if _FOLDER_NAME.fullmatch(name)))


def keys_of(commands: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """A hash for each timing of a list: of its command line, and of how many timings follow it.

    What is left of a list thus has the keys that it had in the list, and equal timings of one list have
    different ones, so that none is given out twice.
    """
    return tuple(
        hashlib.sha256(f"{len(commands) - index} {quote(words)}".encode()).hexdigest()
        for index, words in enumerate(commands)
    )


def stop_folder(transport: Transport, folder: str) -> None:
    """End what runs of the job in this folder."""
    _run(transport, "sh", "-c", STOP, "sh", _checked(folder))


def remove_folder(transport: Transport, folder: str) -> None:
    """End what runs of the job in this folder, and delete the folder. Raises DeviceLostError, DeviceError."""
    stop_folder(transport, folder)
    _do(transport, "rm", "-rf", _checked(folder))


def stretches_of(seconds: Sequence[float], *, longest_s: float, most: int) -> tuple[tuple[int, int], ...]:
    """Cut timings that take so long into stretches of about ``longest_s`` and at most ``most`` timings."""
    cuts, spent_s = [0], 0.0
    for index, each_s in enumerate(seconds):
        if index > cuts[-1] and (spent_s + each_s > longest_s or index - cuts[-1] >= most):
            cuts.append(index)
            spent_s = 0.0
        spent_s += each_s
    return tuple(zip(cuts, [*cuts[1:], len(seconds)], strict=True))


def _checked(folder: str) -> str:
    parent, _, name = folder.rpartition("/")
    if parent != FOLDER or not _FOLDER_NAME.fullmatch(name):
        raise ValueError(f"{folder!r} is not a job's folder")
    return folder


def _cat(transport: Transport, path: str) -> bytes:
    done = _run(transport, "cat", path)
    if done.exit_code != 0:
        raise DeviceError(
            f"{path} is no longer on the phone: {plain_text(done.stderr or done.stdout, limit=200)}.",
            hint="Measure again, and do not let another program use nasflow's folder at the same time.",
        )
    return done.stdout


def _do(transport: Transport, *argv: str) -> None:
    done = _run(transport, *argv)
    if done.exit_code != 0:
        reason = plain_text(done.stderr or done.stdout, limit=300) or "no reason given"
        raise DeviceError(
            f"{argv[0]} failed on {transport.serial} with exit code {done.exit_code}: {reason}.",
            hint=f"Check {FOLDER} on the phone: is there free space, and can the shell write to it?",
            raw=reason,
        )


def _run(transport: Transport, *argv: str) -> Completed:
    return transport.run(argv, timeout_s=_TIMEOUT_S)
