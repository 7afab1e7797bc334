"""The gates of several phones at once, each in a thread of its own.

A phone's timings are its own processor's, so that phones do not disturb each other. What they share is this
computer, which sends models and reads results: its load is watched (:class:`HostLoad`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from android_bench.local.host import local_conditions
from nasflow.base.errors import NasflowError, RunInterruptedError
from nasflow.base.processes import usable_cores
from pipeline.events import Emit, Event, Message, Progress
from stages.documents.gate import GateResult

BUSY = 1.0
"""Programs that want to compute, for each core: with more, some of them wait."""


@dataclass(frozen=True)
class PhoneGate:
    """One phone's gate: what the phone is called, and what measures on it."""

    name: str
    measure: Callable[[Emit], GateResult]


@dataclass
class HostLoad:
    """How busy this computer was while phones were measured; None: it does not tell."""

    most: float | None = None
    cores: int = field(default_factory=usable_cores)

    def look(self) -> None:
        """Read the load of the last minute."""
        now = local_conditions().load_1min
        if now is not None:
            self.most = max(now, self.most or 0.0)

    @property
    def busy(self) -> bool:
        """Whether programs had to wait for a core."""
        return self.most is not None and self.most > BUSY * self.cores

    def warning(self, *, dropped: int, simulated: bool) -> str:
        """Whether that disturbed, and what to do; empty where it did not.

        ``dropped``: blocks that did not count. Phones that are ``simulated`` compute here.
        """
        if not self.busy or not (dropped or simulated):
            return ""
        blocks = f"{dropped} blocks did not count" if dropped != 1 else "1 block did not count"
        told = (
            f"this computer was busy while phones were measured side by side: a load of {self.most:.1f} on "
            f"{self.cores} cores; {blocks}."
        )
        if simulated:
            return f"{told} Simulated phones are this computer: measure them without --side-by-side."
        return f"{told} If blocks of all phones did not count, measure without --side-by-side."


class _StoppedError(Exception):
    """Raised in a phone's thread where the main one has been stopped."""


@dataclass
class _Shared:
    """What the threads tell, one at a time, and whether they are to stop."""

    emit: Emit
    load: HostLoad
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    blocks: dict[str, Progress] = field(default_factory=dict)

    def told(self, name: str, event: Event) -> None:
        """An event of the phone ``name``; raises where its thread is to end."""
        if self.stop.is_set():
            raise _StoppedError
        with self.lock:
            if isinstance(event, Message):
                event = replace(event, text=f"{name}: {event.text}")
            elif isinstance(event, Progress):
                self.load.look()
                self.blocks[name] = event
                event = replace(
                    event,
                    done=sum(one.done for one in self.blocks.values()),
                    total=sum(one.total for one in self.blocks.values()),
                    note=f"{name}: {event.note}",
                )
            self.emit(event)


def measure_all(
    gates: Sequence[PhoneGate],
    emit: Emit,
    load: HostLoad,
    ended: Callable[[int, GateResult | NasflowError], None],
) -> None:
    """Measure on all phones at once; ``ended`` is called in this thread as each one's result or error comes.

    Raises RunInterruptedError, and what is no NasflowError: the others then end after the block that they
    measure, and put their phones back; a second signal does not wait for that.
    """
    shared, results = _Shared(emit, load), SimpleQueue[tuple[int, GateResult | BaseException]]()

    def run(index: int, gate: PhoneGate) -> None:
        try:
            results.put((index, gate.measure(lambda event: shared.told(gate.name, event))))
        except BaseException as error:  # noqa: BLE001 - raised again, or told, in the main thread
            results.put((index, error))

    # They must not keep a program alive that was told to end at once.
    threads = [threading.Thread(target=run, args=one, daemon=True) for one in enumerate(gates)]
    for thread in threads:
        thread.start()
    try:
        for _ in gates:
            index, outcome = results.get()
            if isinstance(outcome, BaseException) and (
                isinstance(outcome, RunInterruptedError) or not isinstance(outcome, NasflowError)
            ):
                raise outcome
            ended(index, outcome)
    finally:
        shared.stop.set()
        for thread in threads:
            thread.join()
