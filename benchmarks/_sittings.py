"""How a latency model is measured: quiet or beside a busy process, in one sitting or in several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from android_bench.device import BenchmarkRequest, LatencyMeasurement
from android_bench.local import LocalDevice
from nasflow.errors import DeviceLost


@dataclass(frozen=True)
class Condition:
    """Whether another program is busy in each sitting; a new one begins with each of ``shares``.

    ``shares``: after which shares of the timings the run is stopped; none: one sitting.
    """

    busy: tuple[bool, ...]
    shares: tuple[float, ...] = ()


CONDITIONS: Mapping[str, Condition] = {
    "quiet": Condition((False,)),
    "busy": Condition((True,)),
    "resumed": Condition((False, False, False), (0.25, 0.6)),
    "resumed_busy": Condition((False, True, False), (0.25, 0.6)),
}

# Computes and reads more memory than a cache holds, as a program that one has forgotten does.
_BUSY = (
    "import hashlib\n"
    "content = bytes(range(256)) * 131_072\n"
    "while True:\n"
    "    hashlib.sha256(content).digest()\n"
    "    content = content[1:] + content[:1]\n"
)


@contextmanager
def beside_busy_process(wanted: bool) -> Iterator[None]:
    """One more process that never rests, where ``wanted``."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


class StoppedDevice(LocalDevice):
    """This computer, which goes away after so many timings: a run that somebody stops."""

    def __init__(self, timings: float) -> None:
        super().__init__()
        self._left = timings

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        """Time each request. Raises DeviceLost after the last timing that is allowed."""
        for found in super().benchmark_many(requests):
            yield found
            self._left -= 1
            if self._left <= 0:
                raise DeviceLost("stopped by the benchmark.", hint="It goes on by itself.")
