"""An Android phone as a device: ``benchmark_model`` in detached jobs, judged by the phone's own state."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from android_bench.device import (
    DEFAULT_OPTIONS,
    PHONE_OVERHEAD,
    BenchmarkRequest,
    Conditions,
    DeviceInfo,
    LatencyMeasurement,
    RuntimeOptions,
)
from android_bench.outputs import Example
from android_bench.phone.clocks import LOAD_S, MOST_PIECES, Clocks
from android_bench.phone.conditions import (
    Limits,
    read_clocks,
    read_conditions,
)
from android_bench.phone.cores import Cores, all_of, clocked, cores_of
from android_bench.phone.job import (
    PhoneJob,
    keys_of,
    left_jobs,
    remove_folder,
    stop_folder,
)
from android_bench.phone.link import PATIENCE_S, PhoneLink, twice
from android_bench.phone.lock import STALE_S, Owner, PhoneLock
from android_bench.phone.outputs import MODEL_SUFFIX, answer_on_phone
from android_bench.phone.planned_job import commands_of, is_fresh, job_of
from android_bench.phone.remote_files import RemoteFiles
from android_bench.phone.steadiness import Steadiness
from android_bench.phone.stretches import Stretches
from android_bench.phone.tool import PhoneTool, find_tool, is_runner_name
from android_bench.runner.outputs import writes_outputs
from android_bench.runner.tool import finished_run, longest_run_s
from android_bench.transport import Transport
from nasflow.base.errors import DeviceError, DeviceLostError, NasflowError, NoUsableDeviceError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from android_bench.runner.download import Runner

_TIMEOUT_S = 30.0
_LAST_LOOK_S = 5.0
_MODEL_NAME = re.compile(r"[0-9a-f]{64}\.(?:tflite|in|out)")

Result = tuple[int, LatencyMeasurement]


class AndroidDevice:
    """Runs models on one phone's official benchmark tool (a :class:`~android_bench.device.Device`).

    ``runner`` is the program to push, or what obtains it for a phone's ABIs; a virtual phone brings its own.
    ``npu_libraries`` is the folder on the phone with what LiteRT loads for its NPU.
    ``patience_s`` is how long the phone may be away. One client measures on a phone at a time: ``owner``
    (this process) holds a lock on it from the first measurement to :meth:`close`. ``load_s`` is how long a
    piece of the load lasts under which a phone's clocks settle.
    """

    overhead = PHONE_OVERHEAD

    def __init__(
        self,
        transport: Transport,
        *,
        runner: Runner | Callable[[Sequence[str]], Runner],
        limits: Limits | None = None,
        npu_libraries: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda _text: None,
        patience_s: float = PATIENCE_S,
        owner: Owner | None = None,
        load_s: float = LOAD_S,
    ) -> None:
        self._runner = runner
        self._limits = limits or Limits()
        self._npu_libraries = npu_libraries
        self._clock, self._sleep, self._tell = clock, sleep, tell
        self._link = PhoneLink(transport, clock=clock, sleep=sleep, tell=tell, patience_s=patience_s)
        self._lock = PhoneLock(owner=owner, clock=clock, sleep=sleep)
        self._files = RemoteFiles(transport)
        self._link.on_return = self._files.forget
        self._tool: PhoneTool | None = None
        self._clocks = Clocks()
        self._steadiness = Steadiness(
            self._link, self._lock, self._clocks, self._limits, clock=clock, sleep=sleep, tell=tell
        )
        self._load_s = load_s
        self._longest_warm_up_s = 2 * MOST_PIECES * load_s  # a process for each piece
        self._cores = Cores(tell)
        self._folder: str | None = None
        self._started: str | None = None
        self._lost = False
        self._left: str | None = None

    def info(self) -> DeviceInfo:
        """Which phone this is; pushes the tool where needed. Raises NoUsableDeviceError, DeviceLostError."""
        tool = self._prepared()
        about = tool.properties
        return DeviceInfo(
            kind="android",
            model=about.model or "unknown",
            soc=about.soc or "unknown",
            os_build=about.os_build or "unknown",
            runtime=tool.runtime,
            binary_sha256=tool.sha256,
            serial=self._link.transport.serial,
            virtual=tool.virtual,
            fixed_performance=self._steadiness.has_mode,
        )

    def renew(self) -> None:
        """Nothing: the tool is a process of its own for every timing."""

    def conditions(self) -> Conditions:
        """The phone's present state. Raises DeviceLostError, NoUsableDeviceError."""
        return self._link.do(read_conditions).conditions()

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        """Time one model, one round. Raises DeviceError, BadMeasurementError, NoUsableDeviceError."""
        ((_, measured),) = self.benchmark_many([request])
        return measured

    def benchmark_many(self, requests: Sequence[BenchmarkRequest]) -> Iterator[Result]:
        """Time each request in order; yields index and result after each stretch that nothing disturbed.

        A phone that goes away is waited for. Where it stays away, DeviceLostError is raised, and a later call
        whose list goes on where this one's results ended finds what the phone has finished meanwhile.
        Raises DeviceError, BadMeasurementError, NoUsableDeviceError (another run measures on it, too), and
        UsageError for batches.
        """
        if not requests:
            return
        for request in requests:
            request.options.check_single("a phone")
        try:
            self._prepared()
            self._occupy()
            tool = self._prepared()
            reading = self._steadiness.ready()
            masks = [
                self._link.do(self._cores.mask, request.options, reading.policies) for request in requests
            ]
            commands = commands_of(tool, requests, masks, self._npu_libraries)
            cores = [cores_of(mask, reading.policies) for mask in masks]
            self._clocks.cores = all_of(cores)
            keys = keys_of(commands)
            start = 0
            while start < len(requests):
                job, offset = (self._taken_over(keys) if start == 0 else None) or (
                    job_of(commands[start:], keys[start:], requests[start:]),
                    0,
                )
                done = 0
                for index, measured in self._results(job, offset, tool, requests[start:], cores[start:]):
                    done = index + 1
                    yield start + index, measured
                start += done
        except DeviceLostError:
            self._lost, self._left = True, self._folder  # it may be found again: nothing is cleaned
            raise
        finally:
            self._remove_job()

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """Not possible: raises UsageError. The official tools time models, and give no outputs."""
        raise UsageError(
            "benchmark_model times models on a phone, but does not return outputs.",
            hint="Compare outputs on this computer: it runs the same .tflite file.",
        )

    def output_bytes(
        self, model: bytes, examples: Sequence[Example], options: RuntimeOptions
    ) -> list[bytes] | None:
        """For each example the bytes of all outputs; None where the tool on the phone cannot write them.

        Raises DeviceError, DeviceLostError, NoUsableDeviceError (another run measures on it, too).
        """
        tool = self._prepared()
        if not all(writes_outputs(tool.tool, example) for example in examples):
            return None
        self._occupy()
        tool = self._prepared()
        mask = self._link.do(self._cores.mask, options, self._link.do(read_clocks))
        found = []
        for example in examples:
            self._link.do(self._lock.renew)
            found.append(self._link.do(answer_on_phone, self._files, tool, model, example, options, mask))
        return found

    def close(self) -> None:
        """End what runs, delete the models, put the settings back. May be called twice.

        A phone that was lost and is not there now keeps everything, and is not waited for. One that another
        run has taken meanwhile is left to that one.
        """
        if self._lock.held:
            self._tidy()
            self._lock.held = False
        self._tool = None
        self._lost, self._left = False, None
        self._files.forget()
        self._link.transport.close()

    def _tidy(self) -> None:
        transport, away = self._link.transport, False
        try:
            if self._lost:
                transport.reconnect(timeout_s=_LAST_LOOK_S)
            twice(lambda: self._lock.look(transport))
            if self._lock.held:
                self._remove_job()
                twice(self._clean)
        except NasflowError as error:
            self._tell(f"Files may remain on the phone; the next run deletes them: {error.message}")
            away = isinstance(error, DeviceLostError | NoUsableDeviceError)
        self._steadiness.put_back(away=away)
        if self._lock.held and not away:
            try:
                twice(lambda: self._lock.release(transport))
            except NasflowError as error:
                self._tell(
                    f"The lock on the phone was not released; it expires after {STALE_S} s: {error.message}"
                )

    def _clean(self) -> None:
        if self._left is not None:  # back again: no more timings once the settings are put back
            stop_folder(self._link.transport, self._left)
        elif not self._lost and self._tool is not None:
            self._files.forget()
            self._files.remove_partial()
            self._files.remove(name for name in self._files.names() if _MODEL_NAME.fullmatch(name))

    def _prepared(self) -> PhoneTool:
        self._lost, self._left = False, None
        if self._tool is None:
            self._tool = self._link.do(find_tool, self._files, self._runner)
            if self._tool.news:
                self._tell(self._tool.news)
            self._steadiness.ask_for_mode()
        return self._tool

    def _occupy(self) -> None:
        """Keep other runs out. Where another may have been here meanwhile, everything is made anew."""
        if self._link.do(self._lock.take):
            self._steadiness.put_back()
            self._files.forget()
            self._link.do(lambda _: self._files.remove_partial())
            self._tool = None  # another run may have deleted it meanwhile
            tool = self._prepared()
            self._link.do(self._remove_old_runners, tool)

    def _remove_old_runners(self, _transport: Transport, tool: PhoneTool) -> None:
        """Delete the runners of earlier runs. Only who holds the lock may: who takes it next looks again."""
        mine = tool.path.rpartition("/")[2]
        self._files.remove(name for name in self._files.names() if is_runner_name(name) and name != mine)

    def _taken_over(self, keys: tuple[str, ...]) -> tuple[PhoneJob, int] | None:
        """The job of an earlier client whose end is this list's beginning, and where; others go."""
        found: tuple[PhoneJob, int] | None = None
        for folder in self._link.do(left_jobs):
            job = self._link.do(PhoneJob.left_in, folder)
            if found is None and job is not None and keys[0] in job.keys:
                offset = job.keys.index(keys[0])
                rest = job.keys[offset:]
                if rest == keys[: len(rest)] and self._link.do(is_fresh, job):
                    self._tell("Continuing with what the phone has measured in the meantime.")
                    found = job, offset
                    continue
            self._link.do(remove_folder, folder)
        return found

    def _results(
        self,
        job: PhoneJob,
        offset: int,
        tool: PhoneTool,
        requests: Sequence[BenchmarkRequest],
        cores: Sequence[tuple[int, ...] | None],
    ) -> Iterator[Result]:
        """Results of a job, counted from ``offset``; only another client's job may end too early."""
        self._folder = job.folder
        asked = requests[: len(job.keys) - offset]
        stretches = Stretches(
            job,
            offset,
            self._link,
            self._lock,
            self._limits,
            start=partial(self._start, job, asked),
            clocks=self._clocks,
            silence_s=max(longest_run_s(request) for request in asked) + self._longest_warm_up_s + _TIMEOUT_S,
            clock=self._clock,
            sleep=self._sleep,
            tell=self._tell,
        )
        for timing in stretches.timings():
            index = timing.index - offset
            conditions = clocked(
                timing.conditions,
                timing.policies,
                cores[index],
                range_mhz=self._clocks.range_mhz(cores[index]),
            )
            yield (
                index,
                finished_run(tool.tool, timing.completed, timing.result, asked[index], conditions=conditions),
            )
        self._remove_job()

    def _start(self, job: PhoneJob, requests: Sequence[BenchmarkRequest]) -> None:
        """Have the models on a phone that is ready, and start. A second start may follow a restart."""
        if self._started == job.folder:
            self._files.forget()
            self._steadiness.put_back()
            self._tool = None
            self._prepared()
        self._started = job.folder
        self._occupy()
        for model in {request.model: None for request in requests}:
            self._link.do(self._lock.renew)
            self._link.do(self._put_model, model)
        self._steadiness.ready()
        warm_up = self._clocks.warm_up(job.commands[0], seconds=self._load_s)
        self._link.do(replace(job, warm_up=warm_up).start, secrets.token_hex(8))

    def _put_model(self, _transport: Transport, model: bytes) -> None:
        self._files.put(model, suffix=MODEL_SUFFIX)

    def _remove_job(self) -> None:
        """End the present job and delete its folder, unless the phone is away."""
        folder, self._folder = self._folder, None
        self._started = None
        if folder is None or self._lost or not self._lock.held:
            return
        try:
            twice(lambda: remove_folder(self._link.transport, folder))
        except DeviceError as error:
            self._tell(f"{folder} remains on the phone; the next run deletes it: {error.message}")
