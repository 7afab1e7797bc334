"""A transport that waits for a phone that went away, and does the command again when it is back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from android_bench.transport import PhoneNotReadyError, Transport
from nasflow.base.errors import DeviceLostError

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a phone may be away before the measurement gives up."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_RECONNECT_TIMEOUT_S = 10.0
_LAST_LOOK_S = 2.0


class PhoneLink:
    """Does things with a phone that may be done twice; each gets ``patience_s`` of waiting."""

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        tell: Callable[[str], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.transport = transport
        self._clock = clock
        self._sleep = sleep
        self._tell = tell
        self._patience_s = patience_s
        self.on_return: Callable[[], None] = lambda: None

    def do(self, action: Callable[Concatenate[Transport, P], T], *args: P.args, **named: P.kwargs) -> T:
        """Do it; where the phone is lost, wait, connect anew, and do it again.

        Raises DeviceLostError where the phone stays away, and whatever else ``action`` raises.
        """
        until: float | None = None
        while True:
            try:
                return action(self.transport, *args, **named)
            except DeviceLostError as lost:
                if until is None:
                    until = self._clock() + self._patience_s
                    self._tell(
                        f"The phone is disconnected: {lost.message} Waiting up to {self._patience_s:.0f} s."
                    )
                self._wait_for_it(until, lost)
                self.on_return()

    def _wait_for_it(self, until: float, lost: DeviceLostError) -> None:
        pause_s = _FIRST_PAUSE_S
        reason = lost.message
        while (left_s := until - self._clock()) > 0:
            self._sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            left_s = max(_LAST_LOOK_S, until - self._clock())
            try:
                self.transport.reconnect(timeout_s=min(_RECONNECT_TIMEOUT_S, left_s))
            except (DeviceLostError, PhoneNotReadyError) as error:
                reason = error.message
                continue
            self._tell("The phone is connected again.")
            return
        raise DeviceLostError(
            f"the phone did not reconnect within {self._patience_s:.0f} s: {reason}",
            hint="What was measured is kept. Connect the phone and run the same command again: it continues "
            "from there.",
            raw=lost.raw,
        ) from lost


def twice(action: Callable[[], object]) -> None:
    """Clean up; a connection that breaks meanwhile is made anew once, and a phone not waited for."""
    try:
        action()
    except DeviceLostError:
        action()
