"""One list of timings on a virtual phone that fails at a chosen moment: what the benchmark of faults repeats.

The phone is real processes, the connection a real socket; only time is not: it leaps where somebody sleeps,
and runs fast while the phone is silent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
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


class LeapingClock:
    """Seconds: real ones, those that somebody slept, and silence at fifty times its real length."""

    def __init__(self, is_silent: Callable[[], bool]) -> None:
        self._is_silent = is_silent
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
        threading.Event().wait(min(seconds / 8, _LONGEST_WAIT_S))
        self()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it when so much has passed; one thing at a time."""
        self._due = self() + seconds, action


class Trap:
    """A transport that does all that it is asked for, and springs once, right before a step's first command.

    ``timing`` is right after the command that starts the job.
    """

    def __init__(self, inner: Transport, moment: Moment, spring: Callable[[], None]) -> None:
        self._inner, self._moment, self._spring = inner, moment, spring
        self._sprung = self._started = False
        self.serial = inner.serial
        self._at("connect")

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See :meth:`Transport.run`."""
        script = argv[2] if argv[0] == "sh" and len(argv) > 2 else ""
        starts = "setsid" in script
        if starts:
            self._at("start")
        elif self._started and "ls -1" in script:
            self._at("poll")
        done = self._inner.run(argv, timeout_s=timeout_s)
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
    kept: dict[int, LatencyMeasurement] = field(default_factory=dict)

    def attempt(
        self,
        moment: Moment = "connect",
        strike: Callable[[], None] = lambda: None,
        heal: Callable[[], None] | None = None,
    ) -> Attempt:
        """Measure what is left. ``strike`` comes at the moment; ``heal`` some time after it was noticed."""
        clock = LeapingClock(lambda: self.phone.faults.is_silent)

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
        transport = Trap(DirectTransport(self.phone.address, key=self.key, clock=clock), moment, spring)
        device = AndroidDevice(
            transport, runner=_no_runner, clock=clock, sleep=clock.sleep, tell=tell, patience_s=PATIENCE_S
        )
        code, words = 0, ""
        with closing(device):
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
        f'#!/system/bin/sh\ncase "$*" in *--result_file_path=*) echo >>{_LOG} ;; esac\n'
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
