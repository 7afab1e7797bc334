"""What stands behind the daemon: something that runs shell commands and moves files.

One of them: the sandbox (:mod:`android_bench.virtual_phone.sandbox`).
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Protocol

from android_bench.virtual_phone.faults import FaultPlan


@dataclass(frozen=True)
class RunningShell:
    """A command under way. ``output`` also takes its input; ``errors`` is None where both are one stream.

    ``control`` gives the exit code in decimal when the command has ended; closing it hangs up.
    """

    output: socket.socket
    errors: socket.socket | None
    control: socket.socket

    def hang_up(self) -> None:
        """End both directions of everything, from any thread; the command gets SIGHUP if it still runs."""
        for end in (self.output, self.errors, self.control):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and give the sockets back; only where no other thread waits on them."""
        self.hang_up()
        for end in (self.output, self.errors, self.control):
            if end is not None:
                end.close()


class Machine(Protocol):
    """A phone's inside. Its methods may be called from any thread."""

    def start_shell(self, command: str, *, merged: bool) -> RunningShell:
        """Run a command line (empty: a shell that reads its input). Raises Disconnected."""

    def start_sync(self, plan: FaultPlan) -> socket.socket:
        """A socket that speaks the ``sync:`` service. Raises Disconnected."""

    def reboot(self) -> None:
        """End every command; files stay."""

    def close(self) -> None:
        """Switch off. May be called twice."""
