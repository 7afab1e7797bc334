"""A phone's job as shell text: what it does by itself, and how it is started, looked at and stopped.

Only what every Android shell since version 6 has (mksh, toybox). See :mod:`android_bench.phone.job` for the
files that it writes.
"""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.phone.clocks import WarmUp
from android_bench.phone.conditions import (
    BATTERY_COMMAND,
    BOOT_ID_COMMAND,
    CPUFREQ_COMMAND,
    DATE_COMMAND,
    POWER_COMMAND,
    THERMAL_COMMAND,
    UPTIME_COMMAND,
)
from android_bench.phone.screen import SETTLE_S, WAYS_TO_WAKE
from android_bench.transport import quote

STATE_COMMANDS = (
    THERMAL_COMMAND,
    BATTERY_COMMAND,
    CPUFREQ_COMMAND,
    DATE_COMMAND,
    UPTIME_COMMAND,
    BOOT_ID_COMMAND,
    POWER_COMMAND,
)
"""What a note of the phone's state is made of, in this order."""
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
POLL = (
    'cd "$1" 2>/dev/null || exit 3; '
    + _IS_JOB
    + 'tr "\\0" " " 2>/dev/null <"/proc/$p/cmdline"; echo; echo ==; ls -1; exit 0'
)
# $2 is the token of one start. A start that is asked for again, since its answer was lost, starts nothing
# twice; the first request may still be on its way. pid goes before start is written: both together are this
# token's.
START = (
    'cd "$1" || exit 3; '
    'if [ "$(cat start 2>/dev/null)" = "$2" ]; then '
    "i=0; while [ ! -f pid ] && [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done; [ ! -f pid ] || exit 0; fi; "
    + _KILL
    + 'rm -f pid; echo "$2" >start.part && mv -f start.part start; '
    'setsid nohup sh "$1/run.sh" >/dev/null 2>&1 </dev/null & '
    "i=0; while [ ! -f pid ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; [ -f pid ]"
)
STOP = 'cd "$1" 2>/dev/null || exit 0; ' + _KILL + "exit 0"


def job_script(
    folder: str,
    token: str,
    stretches: Sequence[tuple[int, int]],
    commands: Sequence[tuple[str, ...]],
    warm_up: WarmUp | None,
) -> str:
    """What the phone runs: every stretch (first, end) that is not finished. Every foreign word is quoted.

    ``token`` separates the parts of what it notes.
    """
    parts = "\n".join(f"    part {quote(words)}" for words in STATE_COMMANDS)
    lines = [
        _FUNCTIONS.format(
            limit=_LONGEST_FILE_512,
            folder=quote([folder]),
            token=token,
            parts=parts,
            wake="\n    ".join(f"{quote(way)} >/dev/null 2>&1 </dev/null" for way in WAYS_TO_WAKE),
            settle=f"{SETTLE_S:g}",
        )
    ]
    for number, (first, end) in enumerate(stretches):
        lines.append(f"if [ -f {number:04d}.after ]; then last=; else")
        lines.append(f'  if [ -n "$last" ]; then cp $last {number:04d}.before')
        lines.append(f"  else state {number:04d}.before; fi")
        lines.append(f"  rouse {number:04d}.before")  # on battery a phone falls asleep, client or not
        lines.append(f"  into={number:04d}.clocks")
        lines.append("  : >$into")
        if warm_up is not None:
            lines.append(_warming(warm_up))
        lines += [f"  one {index:04d} {quote(commands[index])}" for index in range(first, end)]
        lines.append(f"  state {number:04d}.after")
        lines.append(f"  last={number:04d}.after")
        lines.append("fi")
    return "\n".join([*lines, ""])


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
