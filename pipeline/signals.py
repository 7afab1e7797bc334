"""SIGINT and SIGTERM as an exception of the main thread, and moments that they may not cut in two.

The first signal raises :class:`~nasflow.base.errors.RunInterruptedError` at once, or, inside
:func:`deferred`, when that block ends. Every further signal raises at once, wherever the main thread is: a
clean-up that hangs can always be broken off.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nasflow.base.errors import RunInterruptedError


class _Watch:
    """What one :func:`interruptible` block has seen so far."""

    def __init__(self, hint: str) -> None:
        self.hint = hint
        self.depth = 0
        self.received: int | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        first = self.received is None
        self.received = number
        if first and self.depth:
            return
        raise self.interruption(number)

    def interruption(self, number: int) -> RunInterruptedError:
        name = signal.Signals(number).name
        return RunInterruptedError(f"The run was stopped by {name}.", signal_number=number, hint=self.hint)


_watch: _Watch | None = None


@contextmanager
def interruptible(
    hint: str = "Everything finished so far is kept; the same command continues from there.",
) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into RunInterruptedError while the block runs; main thread only.

    The handlers found before are put back afterwards.
    """
    global _watch
    outer, _watch = _watch, _Watch(hint)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in handlers:
            signal.signal(number, _watch.on_signal)
        yield
    finally:
        for number, handler in handlers.items():
            # None: set by something other than Python, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _watch = outer


@contextmanager
def deferred() -> Iterator[None]:
    """Hold back a first signal until the block ends. Other threads are never interrupted."""
    watch = _watch
    if watch is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = watch.received
    watch.depth += 1
    try:
        yield
    finally:
        watch.depth -= 1
    if watch.depth == 0 and before is None and watch.received is not None:
        raise watch.interruption(watch.received)


def check() -> None:
    """Raise RunInterruptedError if a signal came and some library swallowed the exception it caused."""
    if _watch is not None and _watch.received is not None and not _watch.depth:
        raise _watch.interruption(_watch.received)
