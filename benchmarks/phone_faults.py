"""A phone that fails: chosen pairs of a fault and the step at which it strikes.

Each pair measures the same list on the virtual phone by the code that measures on real ones. It must end with
the undisturbed run's very table; or with exit code 4 or 5 within its time-out, and then a second attempt,
without the fault, must complete the table from what the first has left. The phone counts its timings: none
is taken again but where the fault spoiled it.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from benchmarks._fault_run import (
    COARSE_S,
    DESCRIPTION,
    PATIENCE_S,
    Client,
    Moment,
    PhoneRest,
    Row,
    left_behind,
    log_timings,
    requests,
    taken_timings,
)
from benchmarks._report import Outcome, at_least, at_most, main, say
from nasflow.base.errors import DeviceError

CONNECT_S = 15.0 + COARSE_S
"""How long the first connection may take."""
SILENCE_S = 31.0 + COARSE_S
"""The longest that one command may be silent: 30 s, and for a transfer 1 s for each 0.5 MB."""
AWAY_S = SILENCE_S + PATIENCE_S + 2.0 + COARSE_S + 5.0 + COARSE_S
"""Silence, patience with its last attempt, and one look whether the phone can be cleaned."""
NO_COOLING_S = 120.0
"""Longer than the list takes, and much less than a phone is given to cool."""
WALL_S = 150.0
PHONES = 2
IN_ANSWER_BYTES = 75
"""Within a command's answer: behind two headers that agree to it and take its input, or three, where the
one that ends the command before is late. The command has run, or still writes."""

Step = Literal["connect", "push", "run", "pull", "poll"]


@dataclass(frozen=True)
class Pair:
    """A fault at a step, and how it has to end.

    ``exit_code`` 0: with the same table at once, each time ``slower`` times as long on a phone that holds
    such a clock. ``limit_s`` is the time-out of the others, and of those how long all may take at most.
    ``spoiled``: how many timings the fault may cost. ``heals``: the fault ends some time after the client has
    noticed it.
    ``moment`` is where it strikes, if not at the step's own command. ``in_step``: the phone begins no timing
    before the client has judged those before it.
    """

    fault: str
    step: Step
    strike: Callable[[VirtualPhone], None]
    exit_code: Literal[0, 4, 5] = 0
    heals: bool = False
    moment: Moment | None = None
    limit_s: float = 0.0
    spoiled: int = 0
    slower: float = 1.0
    in_step: bool = False
    quick: bool = False


@dataclass(frozen=True)
class Finding:
    """How a pair ended."""

    fault: str
    step: Step
    outcome: str
    exit_code: int
    attempts: int
    timings: int
    virtual_s: float
    wall_s: float
    as_specified: bool


def planned(**faults: object) -> Callable[[VirtualPhone], None]:
    """Put a plan in force."""
    plan = FaultPlan.model_validate(faults)
    return lambda phone: phone.faults.set(plan)


def revoked(phone: VirtualPhone) -> None:
    """Break the connection, and leave the prompt for the next one unanswered."""
    phone.faults.set(FaultPlan(authorisation="ignore"))
    phone.disconnect()


def gone_offline(phone: VirtualPhone) -> None:
    """Break the connection, and answer no new one."""
    phone.faults.set(FaultPlan(offline=True))
    phone.disconnect()


PAIRS = (
    Pair("drop, first byte", "connect", planned(drop_after_received_bytes=0), quick=True),
    Pair("drop, in the handshake", "connect", planned(drop_after_sent_bytes=30)),
    Pair("freeze", "connect", planned(freeze_after_sent_bytes=10), 4, limit_s=CONNECT_S),
    Pair("unauthorised", "connect", planned(authorisation="ignore"), 4, limit_s=CONNECT_S),
    Pair("killed daemon", "connect", VirtualPhone.kill_daemon, 4, limit_s=CONNECT_S),
    Pair("drop, in the file", "push", planned(drop_after_received_bytes=200_000)),
    Pair("freeze for a while", "push", planned(freeze_after_received_bytes=200_000), heals=True),
    Pair("short reads", "push", planned(short_read_bytes=1448)),
    Pair("refused push", "push", planned(push_failure="Permission denied"), 5, limit_s=SILENCE_S, quick=True),
    Pair("full storage", "push", planned(free_bytes=100_000), 5, limit_s=SILENCE_S),
    Pair(
        "drop, answer to the start",
        "run",
        planned(drop_after_sent_bytes=IN_ANSWER_BYTES),
        moment="start",
        quick=True,
    ),
    Pair("restart", "run", VirtualPhone.reboot, moment="timing", spoiled=2),
    Pair("throttling, clocks only", "run", planned(slowdown=4), heals=True, moment="timing", spoiled=4),
    Pair(
        "drift with heat",
        "run",
        planned(thermal_status=1, drift_per_minute=50),
        heals=True,
        moment="timing",
        spoiled=4,
    ),
    Pair(
        "sustained clock",
        "run",
        planned(sustained_share=0.8, sustained_back_s=1),
        moment="connect",
        spoiled=2,
        in_step=True,
        slower=1.25,
        quick=True,
    ),
    # 0.1 s, and not 0.3: time leaps where a client waits, and on a busy computer the phone is then cooled.
    Pair(
        "fixed-performance mode, late",
        "run",
        planned(fixed_performance_share=0.8, fixed_performance_after_s=0.1),
        moment="connect",
        limit_s=NO_COOLING_S,
        slower=1.25,
    ),
    Pair("wrong ABI", "run", planned(abi="armeabi-v7a"), 4, moment="connect", limit_s=SILENCE_S),
    Pair("asleep", "run", planned(asleep=True, sleep_slowdown=50), moment="connect"),
    Pair(
        "falls asleep",
        "run",
        planned(asleep=True, sleep_slowdown=4),
        moment="timing",
        spoiled=2,
        quick=True,
    ),
    Pair(
        "cannot be woken",
        "run",
        planned(asleep=True, stays_asleep=True, refuse_input=True),
        4,
        moment="connect",
        limit_s=SILENCE_S,
    ),
    Pair("on battery", "run", planned(unplugged=True, sleeps_after_s=1, sleep_slowdown=4), moment="connect"),
    Pair("no battery, no services", "run", planned(no_battery=True, missing_services=["thermalservice"])),
    Pair(
        "refused settings",
        "run",
        planned(refuse_settings=True, refuse_fixed_performance=True),
        moment="connect",
    ),
    Pair("tool crashes", "run", planned(tool_signal=4), 5, moment="start", limit_s=SILENCE_S, spoiled=4),
    Pair("tool killed twice", "run", planned(tool_signal=9, tool_signal_times=2), moment="start", spoiled=4),
    Pair(
        "tool cannot be linked",
        "run",
        planned(tool_link_error="cannot locate symbol"),
        4,
        moment="connect",
        limit_s=SILENCE_S,
    ),
    Pair("tool is forbidden", "run", planned(tool_forbidden=True), 4, moment="connect", limit_s=SILENCE_S),
    Pair("clock set forward", "run", planned(clock_offset_s=28_800), moment="timing", spoiled=4),
    Pair("clock set back", "run", planned(clock_offset_s=-28_800), moment="timing", spoiled=4, quick=True),
    Pair("drop, in the file", "pull", planned(drop_after_sent_bytes=60), quick=True),
    Pair("freeze", "pull", planned(freeze_after_sent_bytes=60), 5, limit_s=AWAY_S),
    Pair("small segments", "pull", planned(segment_bytes=100)),
    Pair("restart", "pull", VirtualPhone.reboot, spoiled=2),
    Pair("killed daemon for a while", "pull", VirtualPhone.kill_daemon, heals=True),
    Pair("drop, in the answer", "poll", planned(drop_after_sent_bytes=IN_ANSWER_BYTES)),
    Pair("freeze for a while", "poll", planned(freeze_after_received_bytes=10), heals=True),
    Pair("unauthorised", "poll", revoked, 5, limit_s=AWAY_S),
    Pair("offline", "poll", gone_offline, 5, limit_s=AWAY_S),
    Pair("killed daemon", "poll", VirtualPhone.kill_daemon, 5, limit_s=AWAY_S, quick=True),
)


def run(full: bool) -> Outcome:
    """All pairs, or with ``--quick`` one or more of each step; on two phones at once, for two cores."""
    begin = time.perf_counter()
    pairs = [pair for pair in PAIRS if full or pair.quick]
    with ThreadPoolExecutor(PHONES) as pool:
        shares = list(pool.map(examine_all, [pairs[index::PHONES] for index in range(PHONES)]))
    tables = [table for table, _ in shares]
    if any(table != tables[0] for table in tables):
        raise DeviceError(
            "without a fault two phones differ.", hint="This is a mistake in the virtual phone."
        )
    table = tables[0]
    findings = sorted((finding for _, some in shares for finding in some), key=_place)
    wall_s = time.perf_counter() - begin
    return Outcome(
        figures={
            "pairs": len(findings),
            "same_table": sum(finding.outcome == "same table" for finding in findings),
            "resumed": sum(finding.outcome == "resumed" for finding in findings),
            "as_specified": sum(finding.as_specified for finding in findings),
            "timings": len(table),
            "wall_seconds": wall_s,
            "table": [asdict(finding) for finding in findings],
        },
        bars=[
            at_least("as_specified", sum(finding.as_specified for finding in findings), len(pairs)),
            at_most("wall_seconds", wall_s, WALL_S),
        ],
    )


def examine_all(pairs: Sequence[Pair]) -> tuple[tuple[Row, ...], list[Finding]]:
    """The undisturbed table of one phone, and how each of some pairs ended on it."""
    with ExitStack() as stack:
        key = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phone-faults-"))) / "adbkey"
        rest = PhoneRest()
        phone = stack.enter_context(running_phone(description=DESCRIPTION, rest_clock=rest))
        log_timings(phone)
        table = undisturbed(phone, key)
        return table, [examine(pair, phone, key, table, rest) for pair in pairs]


def _place(finding: Finding) -> int:
    return next(n for n, pair in enumerate(PAIRS) if (pair.fault, pair.step) == (finding.fault, finding.step))


def undisturbed(phone: VirtualPhone, key: Path) -> tuple[Row, ...]:
    """The table of a phone that is well. Raises DeviceError where that is not complete, or not repeatable."""
    tables = []
    for _ in range(2):
        client = Client(phone, key, requests())
        attempt = client.attempt()
        timings, left = taken_timings(phone), left_behind(phone)
        if attempt.exit_code or timings != len(client.asked) or left:
            raise DeviceError(
                f"without a fault {timings} timings were taken, {left} was left: {attempt.words}",
                hint="This is a mistake in the device, or in the virtual phone.",
            )
        tables.append(client.table())
    if tables[0] != tables[1]:
        raise DeviceError(
            "without a fault two runs differ.",
            hint="This is a mistake in the virtual phone.",
            raw=str(tables),
        )
    return tables[0]


def examine(
    pair: Pair, phone: VirtualPhone, key: Path, table: tuple[Row, ...], rest: PhoneRest | None = None
) -> Finding:
    """Measure the list with the pair's fault; where that ends early, again without it.

    ``rest`` is the clock of the phone's rests, where it has one of its own.
    """
    begin = time.perf_counter()

    def heal() -> None:
        phone.faults.clear()
        phone.start_daemon()

    wait_for_quiet(phone)  # the fault is for this client, and not for the end of the last
    client = Client(phone, key, requests(), rest or PhoneRest())
    first = last = client.attempt(
        pair.moment or _MOMENTS[pair.step],
        lambda: pair.strike(phone),
        heal if pair.heals else None,
        in_step=pair.in_step,
    )
    happened = first.fault_seconds is not None and not waiting(phone.faults.plan)
    heal()
    attempts = 1
    if first.exit_code:
        attempts, last = 2, client.attempt()
    timings, left = taken_timings(phone), left_behind(phone)
    same = same_table(client.table(), table, pair.slower)
    complete = last.exit_code == 0 and same and not left
    in_time = (first.fault_seconds or 0.0) <= (pair.limit_s or math.inf)
    as_specified = (
        happened
        and first.exit_code == pair.exit_code
        and complete
        and in_time
        and len(table) <= timings <= len(table) + pair.spoiled
    )
    outcome = "lost" if not complete else "resumed" if first.exit_code else "same table"
    say(f"{pair.fault} / {pair.step}: {outcome}, exit code {first.exit_code}, {first.seconds:.0f} s")
    if not as_specified:
        say(f"  not as specified: struck: {happened}, {timings} timings, left {left}")
        say(f"  {first.words} {last.words}")
    return Finding(
        pair.fault,
        pair.step,
        outcome,
        first.exit_code,
        attempts,
        timings,
        round(first.seconds, 1),
        round(time.perf_counter() - begin, 2),
        as_specified,
    )


def same_table(got: Sequence[Row], expected: Sequence[Row], slower: float) -> bool:
    """Whether it is the very table; or, at a lower clock, every time within 1 % of what follows from it."""
    if slower == 1.0 or len(got) != len(expected):
        return tuple(got) == tuple(expected)
    return all(
        one[0] == other[0]
        and all(
            math.isclose(ms, slower * peak_ms, rel_tol=0.01)
            for ms, peak_ms in zip(one[1:5], other[1:5], strict=True)
        )
        for one, other in zip(got, expected, strict=True)
    )


def wait_for_quiet(phone: VirtualPhone) -> None:
    """Until nobody is connected."""
    pause = threading.Event()
    while phone.clients:
        pause.wait(0.01)


def waiting(plan: FaultPlan) -> bool:
    """Is a fault in the plan that waits for more bytes? Once it has struck, it is out of the plan."""
    return any(
        getattr(plan, f"{fault}_after_{direction}_bytes") is not None
        for fault in ("drop", "freeze")
        for direction in ("received", "sent")
    )


_MOMENTS: dict[Step, Moment] = {
    "connect": "connect",
    "push": "push",
    "run": "start",
    "pull": "pull",
    "poll": "poll",
}


if __name__ == "__main__":
    sys.exit(main("phone_faults", run))
