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
    BATTERY_COMMAND,
    BOOT_ID_COMMAND,
    CPUFREQ_COMMAND,
    DATE_COMMAND,
    POWER_COMMAND,
    THERMAL_COMMAND,
    UPTIME_COMMAND,
    Reading,
    read_conditions,
    reading_of,
)
from android_bench.phone.screen import SETTLE_S, WAYS_TO_WAKE
from android_bench.phone.text import parse_cpufreq
from android_bench.transport import FOLDER, Completed, Transport, quote
from nasflow.base.errors import DeviceError
from nasflow.base.text import plain_text

MAX_TIMINGS = 500
"""A job's folder stays small: a longer list becomes several jobs."""

_COMMANDS = (
    THERMAL_COMMAND,
    BATTERY_COMMAND,
    CPUFREQ_COMMAND,
    DATE_COMMAND,
    UPTIME_COMMAND,
    BOOT_ID_COMMAND,
    POWER_COMMAND,
)
_FOLDER_NAME = re.compile(r"job-[0-9a-f]{32}")
_TEXT_NAME = re.compile(r"([0-9]{4})\.([0-9]{1,3})\.txt")
_RESULT_NAME = re.compile(r"([0-9]{4})\.pb")
_AFTER_NAME = re.compile(r"([0-9]{4})\.after")
_KEY_LINE = re.compile(r"([0-9]{1,4}) ([0-9a-f]{64})")
_TIMEOUT_S = 30.0
_MAX_LISTING = 1_000_000
_LONGEST_FILE_512 = 20_000  # ulimit counts 512 bytes: a tool that does not stop printing fills no phone

_FUNCTIONS = """\
ulimit -f {limit} 2>/dev/null
cd {folder} || exit 1
echo $$ >pid.part && mv -f pid.part pid
ours() {{
  [ "$(cat pid 2>/dev/null)" = $$ ] || exit 1
}}
one() {{
  ours
  n=$1
  shift
  rm -f result.pb $n.*.txt $n.pb
  "$@" >text.part 2>&1 </dev/null
  code=$?
  clocks $n
  if [ -f result.pb ]; then mv -f result.pb $n.pb; fi
  mv -f text.part $n.$code.txt
}}
clocks() {{
  {{
    echo "== {token} $1"
    for p in /sys/devices/system/cpu/cpufreq/policy*; do
      for f in related_cpus scaling_cur_freq scaling_max_freq cpuinfo_max_freq; do
        v=
        {{ read -r v <"$p/$f"; }} 2>/dev/null
        echo "${{p##*/}}/$f=$v"
      done
    done
  }} >>$into
  hot=$(caps)
}}
caps() {{
  for p in /sys/devices/system/cpu/cpufreq/policy*; do
    v=
    {{ read -r v <"$p/scaling_max_freq"; }} 2>/dev/null
    echo "$v"
  done
}}
down() {{
  v=
  {{ read -r v </sys/devices/system/cpu/cpufreq/policy$1/scaling_max_freq; }} 2>/dev/null
  [ -z "$v" ] || [ "$v" -le $2 ]
}}
quiet() {{
  "$@" >/dev/null 2>&1 </dev/null
}}
part() {{
  words=$("$@" 2>/dev/null </dev/null)
  echo "== {token} $?"
  echo "$words"
}}
state() {{
  ours
  {{
{parts}
  }} >state.part
  mv -f state.part $1
}}
rouse() {{
  case "$(cat $1)" in
  *mWakefulness=Awake*) ;;
  *mWakefulness=*)
    {wake}
    sleep {settle}
    state $1 ;;
  esac
}}
last=
hot=
"""

# Runs the load before a stretch. Where the phone still has the clocks that it had after the timing before,
# it never came to rest, and a short piece does.
_WARM_UP = """\
  ours
  if [ {least} -eq 0 ] || {{ [ -n "$hot" ] && [ "$hot" = "$(caps)" ]; }}; then
    quiet {short}
  else
    hot= i=0
    while [ $i -lt {most} ]; do
      quiet {long}
      ours
      i=$((i+1)) before=$hot hot=$(caps)
      if [ $i -ge {least} ] && {settled}; then break; fi
    done
  fi
  clocks load"""

# Whether process $p is the job in folder $1: a number may belong to another after a restart.
_IS_JOB = 'case "$(cat pid 2>/dev/null)" in ""|*[!0-9]*) p=0 ;; *) p=$(cat pid) ;; esac; '
_KILL = (
    _IS_JOB + 'case "$(tr "\\0" " " 2>/dev/null <"/proc/$p/cmdline")" in '
    '*"$1/run.sh"*) kill -9 -"$p" ;; esac; '
)
# Whether it runs comes first: one that ends meanwhile has then written all that the listing shows.
_POLL_SCRIPT = (
    'cd "$1" 2>/dev/null || exit 3; '
    + _IS_JOB
    + 'tr "\\0" " " 2>/dev/null <"/proc/$p/cmdline"; echo; echo ==; ls -1; exit 0'
)
# $2 is the token of one start. A start that is asked for again, since its answer was lost, starts nothing
# twice; the first request may still be on its way. pid goes before start is written: both together are this
# token's.
_START_SCRIPT = (
    'cd "$1" || exit 3; '
    'if [ "$(cat start 2>/dev/null)" = "$2" ]; then '
    "i=0; while [ ! -f pid ] && [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done; [ ! -f pid ] || exit 0; fi; "
    + _KILL
    + 'rm -f pid; echo "$2" >start.part && mv -f start.part start; '
    'setsid nohup sh "$1/run.sh" >/dev/null 2>&1 </dev/null & '
    "i=0; while [ ! -f pid ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; [ -f pid ]"
)
_STOP_SCRIPT = 'cd "$1" 2>/dev/null || exit 0; ' + _KILL + "exit 0"


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
        """The job as a shell script; every foreign word is quoted."""
        parts = "\n".join(f"    part {quote(words)}" for words in _COMMANDS)
        lines = [
            _FUNCTIONS.format(
                limit=_LONGEST_FILE_512,
                folder=quote([self.folder]),
                token=self.token,
                parts=parts,
                wake="\n    ".join(f"{quote(way)} >/dev/null 2>&1 </dev/null" for way in WAYS_TO_WAKE),
                settle=f"{SETTLE_S:g}",
            )
        ]
        for number, (first, end) in enumerate(self.stretches):
            lines.append(f"if [ -f {number:04d}.after ]; then last=; else")
            lines.append(f'  if [ -n "$last" ]; then cp $last {number:04d}.before')
            lines.append(f"  else state {number:04d}.before; fi")
            lines.append(f"  rouse {number:04d}.before")  # on battery a phone falls asleep, client or not
            lines.append(f"  into={number:04d}.clocks")
            lines.append("  : >$into")
            if self.warm_up is not None:
                lines.append(_warming(self.warm_up))
            lines += [f"  one {index:04d} {quote(self.commands[index])}" for index in range(first, end)]
            lines.append(f"  state {number:04d}.after")
            lines.append(f"  last={number:04d}.after")
            lines.append("fi")
        return "\n".join([*lines, ""])

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
        done = _run(
            transport, "sh", "-c", _START_SCRIPT, "sh", self.folder, start_token or secrets.token_hex(8)
        )
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
        done = _run(transport, "sh", "-c", _POLL_SCRIPT, "sh", self.folder)
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
        if len(parts) != len(_COMMANDS):
            raise DeviceError(
                f"a note of the phone's state is damaged: {len(parts)} of {len(_COMMANDS)} parts.",
                hint="Check whether the phone's storage is full, then measure again.",
                raw=plain_text(content),
            )
        answers: dict[tuple[str, ...], str | None] = {}
        for words, part in zip(_COMMANDS, parts, strict=True):
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
    _run(transport, "sh", "-c", _STOP_SCRIPT, "sh", _checked(folder))


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


def _warming(warm_up: WarmUp) -> str:
    return _WARM_UP.format(
        least=warm_up.least,
        settled=_settled(warm_up),
        most=warm_up.most,
        short=quote(warm_up.short_words),
        long=quote(warm_up.long_words),
    )


def _settled(warm_up: WarmUp) -> str:
    """The test whether the clocks are where the warm-up wants them."""
    if not warm_up.target:
        return '[ "$hot" = "$before" ]'
    return " && ".join(f"down {number} {khz}" for number, khz in warm_up.target)


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
