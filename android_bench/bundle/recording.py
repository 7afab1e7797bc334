"""A transport that keeps all that is asked of a phone and all that it answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from android_bench.bundle.exchange import MAX_BYTES, Exchange, Failure
from android_bench.device import DeviceInfo
from android_bench.transport import Completed, PhoneNotReadyError, Transport
from nasflow.base.errors import DeviceError, DeviceLostError, NasflowError

MAX_KEPT_BYTES = MAX_BYTES
_MAX_TEXT_BYTES = 300_000


@dataclass
class Recorder:
    """What was recorded, in order. ``part`` names what is being done; set it as that changes.

    ``names`` are what the phone is called, ``info`` what it is, as far as they are known.
    """

    clock: Callable[[], float] = time.monotonic
    part: str = "phone"
    exchanges: list[Exchange] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    info: DeviceInfo | None = None
    _begin: float | None = None
    _kept_bytes: int = 0

    def wrap(self, transport: Transport) -> Transport:
        """The same transport, recorded; its name is one of those that must not be told."""
        self.names.add(transport.serial)
        return RecordingTransport(transport, self)

    def now_s(self) -> float:
        """Seconds since the first question."""
        now = self.clock()
        self._begin = now if self._begin is None else self._begin
        return now - self._begin

    def keep(self, **fields: object) -> None:
        """Add one. Raises DeviceError where a phone has said more than any bundle should hold."""
        answer = [fields.get(name) for name in ("stdout", "stderr", "content", "text")]
        self._kept_bytes += sum(len(part) for part in answer if isinstance(part, bytes | str))
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise DeviceError(
                f"the phone returned more than {MAX_KEPT_BYTES / 1e6:.0f} MB, which is too much for a "
                "bundle.",
                hint="Run the checks without --bundle, and report their output.",
            )
        self.exchanges.append(Exchange.model_validate({"part": self.part, **fields}))


class RecordingTransport:
    """A :class:`~android_bench.transport.Transport` around another one."""

    def __init__(self, transport: Transport, recorder: Recorder) -> None:
        self._transport, self._recorder = transport, recorder

    @property
    def serial(self) -> str:
        """See :class:`Transport`."""
        return self._transport.serial

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See :class:`Transport`."""
        with self._kept(kind="run", words=tuple(argv)) as answer:
            done = self._transport.run(argv, timeout_s=timeout_s)
            answer |= {"stdout": done.stdout, "stderr": done.stderr, "exit_code": done.exit_code}
        return done

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        """See :class:`Transport`."""
        with self._kept(
            kind="push",
            path=remote,
            mode=mode,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            text=text_of(content),
        ):
            self._transport.push(content, remote, mode=mode, timeout_s=timeout_s)

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        """See :class:`Transport`."""
        with self._kept(kind="pull", path=remote) as answer:
            answer["content"] = content = self._transport.pull(remote, timeout_s=timeout_s)
        return content

    def state(self) -> str:
        """See :class:`Transport`."""
        with self._kept(kind="state") as answer:
            answer["state"] = state = self._transport.state()
        return state

    def reconnect(self, *, timeout_s: float) -> None:
        """See :class:`Transport`."""
        with self._kept(kind="reconnect"):
            self._transport.reconnect(timeout_s=timeout_s)

    def close(self) -> None:
        """See :class:`Transport`."""
        self._transport.close()

    @contextmanager
    def _kept(self, **asked: object) -> Iterator[dict[str, object]]:
        recorder = self._recorder
        begin_s = recorder.now_s()
        answer: dict[str, object] = {}
        try:
            yield answer
        except NasflowError as error:
            answer["failure"] = failure_of(error)
            raise
        finally:
            if answer or asked["kind"] in ("push", "reconnect"):  # an interruption has no answer
                took_s = max(0.0, recorder.now_s() - begin_s)
                recorder.keep(at_s=begin_s, took_s=took_s, **asked, **answer)


def text_of(content: bytes) -> str | None:
    """A pushed file as text where it is one: a script or a note of nasflow's, never a model or a program."""
    if len(content) > _MAX_TEXT_BYTES or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def failure_of(error: NasflowError) -> Failure:
    """The error as a bundle keeps it."""
    if isinstance(error, PhoneNotReadyError):
        kind, state = "not-ready", error.state
    else:
        kind, state = ("device-lost" if isinstance(error, DeviceLostError) else "device-error"), ""
    return Failure.model_validate(
        {
            "kind": kind,
            "message": error.message[:1000],
            "hint": error.hint[:1000],
            "raw": error.raw[:100_000],
            "state": state[:100],
        }
    )
