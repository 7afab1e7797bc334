"""One list of timings on a virtual phone that fails at a chosen moment: what the benchmark of faults repeats.

The phone is real processes, the connection a real socket; only time is not: it leaps where somebody sleeps,
and runs fast while the phone is silent. What a phone does by itself, in a time of its own, it does by the
client's time here (:class:`PhoneRest`), or in step with the client (:class:`Step`): a busy computer then
changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest, LatencyMeasurement
from android_bench.transport import FOLDER, Completed, Transport
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.phone import VirtualPhone
from nasflow.base.errors import NasflowError, UsageError
from stages.conversion.flatbuffer import block_model
from stages.space.block_spec import BlockSpec

if TYPE_CHECKING:
    from android_bench.runner.download import Runner

PATIENCE_S = 60.0
HEALING_S = 20.0
DESCRIPTION = PhoneDescription(run_us=50_000)
"""Runs take 50 to 100 ms by this phone's clock: equal measurements give equal numbers."""

COARSE_S = 3.0
"""How much too late a wait for a silent phone may end: the fast clock goes by such steps at most."""

Moment = Literal["connect", "push", "start", "timing", "pull", "poll"]
Row = tuple[str, float, float, float, float, int]

_FASTER = 50.0
_LONGEST_WAIT_S = 0.1
_LOG = "/sdcard/timings"
_IN_STEP, _WAITS = "/sdcard/in_step", "/sdcard/waits"


def _nothing(_: float) -> None:
    pass


def requests() -> list[BenchmarkRequest]:
    """Two models of some hundred KB in two rounds: two stretches of a job."""
    blocks = [
        BlockSpec(
            kind="mbconv", kernel=kernel, expansion=6, in_channels=96, out_channels=96, resolution=4, stride=1
        )
        for kernel in (3, 5)
    ]
    models = [(block.key, block_model(block)) for block in blocks]
    return [
        BenchmarkRequest(name=name, model=model, warmup_ms=100, min_ms=5000, min_runs=10)
        for _ in range(2)
        for name, model in models
    ]


class PhoneRest:
    """How long a phone has been at rest, in seconds: those that its client slept while no job ran."""

    def __init__(self) -> None:
        self.job_runs = False
        self._now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self._now

    def slept(self, seconds: float) -> None:
        """Take note that the client slept."""
        if not self.job_runs:
            self._now += seconds


class Step:
    """Has the phone begin each timing only after the client has judged what was finished before it.

    Else it depends on the computer's speed how many timings a phone begins that are then thrown away.
    """

    def __init__(self, phone: VirtualPhone) -> None:
        self._waits = phone.storage(_WAITS)
        self._switch = phone.storage(_IN_STEP)
        self._switch.touch()
        self._had_waited = False

    def looks(self) -> None:
        """The client is about to look at the job: what it saw the last time, it has judged."""
        waits = self._waits.exists()
        if waits and self._had_waited:
            self._waits.unlink()
        self._had_waited = waits and not self._had_waited

    def close(self) -> None:
        """The phone goes on by itself."""
        self._switch.unlink()
        self._waits.unlink(missing_ok=True)


class LeapingClock:
    """Seconds: real ones, those that somebody slept, and silence at fifty times its real length."""

    def __init__(self, is_silent: Callable[[], bool], slept: Callable[[float], None] = _nothing) -> None:
        self._is_silent = is_silent
        self._slept = slept
        self._now = 0.0
        self._seen = time.monotonic()
        self._due: tuple[float, Callable[[], None]] | None = None

    def __call__(self) -> float:
        """Now."""
        real = time.monotonic()
        passed = real - self._seen
        self._now += min(COARSE_S, _FASTER * passed) if self._is_silent() else passed
        self._seen = real
        if self._due is not None and self._now >= self._due[0]:
            (_, action), self._due = self._due, None
            action()
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let that much pass at once, and a little of it truly: the phone computes meanwhile."""
        self._now += seconds
        self._slept(seconds)
        threading.Event().wait(min(seconds / 8, _LONGEST_WAIT_S))
        self()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it when so much has passed; one thing at a time."""
        self._due = self() + seconds, action


class Trap:
    """A transport that does all that it is asked for, and springs once, right before a step's first command.

    ``timing`` is right after the command that starts the job. ``rest`` is told when a job runs.
    """

    def __init__(
        self,
        inner: Transport,
        moment: Moment,
        spring: Callable[[], None],
        rest: PhoneRest | None = None,
        step: Step | None = None,
    ) -> None:
        self._inner, self._moment, self._spring = inner, moment, spring
        self._rest, self._step = rest or PhoneRest(), step
        self._sprung = self._started = False
        self.serial = inner.serial
        self._at("connect")

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See :meth:`Transport.run`."""
        script = argv[2] if argv[0] == "sh" and len(argv) > 2 else ""
        starts = "setsid" in script
        if starts:
            self._at("start")
            self._rest.job_runs = True
        elif self._started and "ls -1" in script:
            self._at("poll")
            if self._step is not None:
                self._step.looks()
        done = self._inner.run(argv, timeout_s=timeout_s)
        if "kill -9" in script and not starts:
            self._rest.job_runs = False
        if starts:
            self._started = True
            self._at("timing")
        return done

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        """See :meth:`Transport.push`."""
        if ".tflite" in remote:
            self._at("push")
        self._inner.push(content, remote, mode=mode, timeout_s=timeout_s)

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        """See :meth:`Transport.pull`."""
        self._at("pull")
        return self._inner.pull(remote, timeout_s=timeout_s)

    def state(self) -> str:
        """See :meth:`Transport.state`."""
        return self._inner.state()

    def reconnect(self, *, timeout_s: float) -> None:
        """See :meth:`Transport.reconnect`."""
        self._inner.reconnect(timeout_s=timeout_s)

    def close(self) -> None:
        """See :meth:`Transport.close`."""
        self._inner.close()

    def _at(self, moment: Moment) -> None:
        if moment == self._moment and not self._sprung:
            self._sprung = True
            self._spring()


@dataclass(frozen=True)
class Attempt:
    """How one client ended. Seconds are by its clock; ``fault_seconds`` None: nothing has struck."""

    exit_code: int
    words: str
    seconds: float
    fault_seconds: float | None


@dataclass
class Client:
    """Keeps what it received from one attempt to the next, as the pipeline does."""

    phone: VirtualPhone
    key: Path
    asked: Sequence[BenchmarkRequest]
    rest: PhoneRest = field(default_factory=PhoneRest)
    kept: dict[int, LatencyMeasurement] = field(default_factory=dict)

    def attempt(
        self,
        moment: Moment = "connect",
        strike: Callable[[], None] = lambda: None,
        heal: Callable[[], None] | None = None,
        *,
        in_step: bool = False,
    ) -> Attempt:
        """Measure what is left. ``strike`` comes at the moment; ``heal`` some time after it was noticed.

        ``in_step``: see :class:`Step`.
        """
        clock = LeapingClock(lambda: self.phone.faults.is_silent, self.rest.slept)

        def tell(text: str) -> None:
            if heal is not None and (
                "phone is disconnected" in text or "phone is too hot" in text or "phone throttles" in text
            ):
                clock.later(HEALING_S, heal)

        struck: list[float] = []

        def spring() -> None:
            struck.append(clock())
            strike()

        left = [index for index in range(len(self.asked)) if index not in self.kept]
        inner = DirectTransport(self.phone.address, key=self.key, clock=clock)
        step = Step(self.phone) if in_step else None
        transport = Trap(inner, moment, spring, self.rest, step)
        device = AndroidDevice(
            transport, runner=_no_runner, clock=clock, sleep=clock.sleep, tell=tell, patience_s=PATIENCE_S
        )
        code, words = 0, ""
        with closing(step) if step else nullcontext(), closing(device):
            try:
                device.info()
                for place, measured in device.benchmark_many([self.asked[index] for index in left]):
                    self.kept[left[place]] = measured
            except NasflowError as error:
                code, words = error.exit_code, str(error)
        end = clock()
        return Attempt(code, words, end, end - struck[0] if struck else None)

    def table(self) -> tuple[Row, ...]:
        """What is known of each request, without the moment when it was measured."""
        rows = []
        for index in sorted(self.kept):
            found = self.kept[index]
            times = found.median_ms, found.p5_ms, found.p95_ms, found.min_ms
            rows.append((self.asked[index].name, *times, found.runs))
        return tuple(rows)


def log_timings(phone: VirtualPhone) -> None:
    """Have the phone note each timing that it begins; put before its tool, outside of what a client sees.

    What writes no result is mere load.
    """
    tool = phone.folder.system / "bin" / "benchmark_model"
    tool.write_text(
        '#!/system/bin/sh\ncase "$*" in *--result_file_path=*)\n'
        f"  [ ! -f {_IN_STEP} ] || : >{_WAITS}\n"
        f"  while [ -f {_WAITS} ]; do sleep 0.01; done\n"
        f"  echo >>{_LOG} ;;\nesac\n"
        f'exec /system/bin/benchmark_model_{phone.folder.description.tool} "$@"\n',
        encoding="utf-8",
    )


def taken_timings(phone: VirtualPhone) -> int:
    """How many timings the phone has begun since the last question."""
    log = phone.storage(_LOG)
    count = len(log.read_bytes()) if log.exists() else 0
    log.unlink(missing_ok=True)
    return count


def left_behind(phone: VirtualPhone) -> list[str]:
    """What a client that has ended well should not have left on the phone."""
    folder = phone.storage(FOLDER)
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    settings = [
        phone.storage(f"/data/system/{setting}")
        for setting in ("global/stay_on_while_plugged_in", "system/screen_off_timeout")
    ]
    return sorted([*names, *(setting.name for setting in settings if setting.exists())])


def _no_runner(abis: Sequence[str]) -> Runner:
    raise UsageError(f"a virtual phone brings its own tool, and one for {', '.join(abis)} was asked for.")
