"""A transport that answers from a bundle: a phone that is not here, as it answered once.

A question is known again by its normal form (:mod:`android_bench.bundle.dynamic`), and gets the answers that
were recorded to it in their order; the last one is given again and again, as a finished job stays finished.
What was random in the recorded question stands for what is random in the one that is asked now, in answers
too: a run's own lock is then its own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence

from android_bench.bundle.archive import Bundle
from android_bench.bundle.dynamic import DYNAMIC, normal_form
from android_bench.bundle.exchange import Exchange, Failure
from android_bench.bundle.recording import text_of
from android_bench.transport import Completed, PhoneNotReadyError
from nasflow.base.errors import DeviceError, DeviceLostError

_BETWEEN_WORDS = "\x1f"
_SHOWN_CHARACTERS = 300


class ReplayTransport:
    """A :class:`~android_bench.transport.Transport` of the phone in a bundle.

    ``part`` limits it to what was asked in that part. ``aliases`` names what stands in for something of the
    recording: the hash of the program used in place of the recorded one, which is not in the bundle, and that
    one's hash.
    """

    def __init__(
        self, bundle: Bundle, *, part: str | None = None, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._aliases = dict(aliases or {})
        self._now_by_recorded: dict[str, str] = {}
        self._answers: dict[tuple[str, ...], deque[Exchange]] = {}
        for exchange in bundle.exchanges:
            if part in (None, exchange.part):
                self._answers.setdefault(_key_of(exchange), deque()).append(exchange)

    @property
    def serial(self) -> str:
        """What it is called: a bundle does not tell the phone's name."""
        return "replay"

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """The answer to a command. Raises DeviceError where the bundle has none, and what was raised then."""
        asked = self._as_recorded(_BETWEEN_WORDS.join(argv))
        exchange = self._next(("run", normal_form(asked)), " ".join(argv))
        self._learn(_BETWEEN_WORDS.join(exchange.words), asked)
        if exchange.exit_code is None:
            raise _nothing(" ".join(argv))
        return Completed(self._as_now(exchange.stdout), self._as_now(exchange.stderr), exchange.exit_code)

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        """Take a file that is the recorded one. Raises DeviceError where it is another."""
        text = text_of(content)
        digest = hashlib.sha256(content).hexdigest()
        same = self._aliases.get(digest, digest) if text is None else normal_form(self._as_recorded(text))
        asked = self._as_recorded(remote)
        exchange = self._next(("push", normal_form(asked), same), f"push {remote}")
        self._learn(exchange.path, asked)
        if text is not None and exchange.text is not None:
            self._learn(exchange.text, self._as_recorded(text))

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        """A file's recorded content. Raises DeviceError."""
        asked = self._as_recorded(remote)
        exchange = self._next(("pull", normal_form(asked)), f"pull {remote}")
        self._learn(exchange.path, asked)
        if exchange.content is None:
            raise _nothing(f"pull {remote}")
        return exchange.content

    def state(self) -> str:
        """The recorded state, ``device`` where it was never asked for."""
        if ("state",) not in self._answers:
            return "device"
        return self._next(("state",), "state").state

    def reconnect(self, *, timeout_s: float) -> None:
        """What connecting anew brought then; nothing where it was never done."""
        if ("reconnect",) in self._answers:
            self._next(("reconnect",), "reconnect")

    def close(self) -> None:
        """Nothing is open."""

    def _next(self, key: tuple[str, ...], asked: str) -> Exchange:
        answers = self._answers.get(key)
        if not answers:
            raise _nothing(asked)
        exchange = answers.popleft() if len(answers) > 1 else answers[0]
        if exchange.failure is not None:
            raise _raised(exchange.failure)
        return exchange

    def _learn(self, recorded: str, asked: str) -> None:
        """What is random in both stands in the same places: their normal forms are equal."""
        pairs = zip(DYNAMIC.findall(recorded), DYNAMIC.findall(asked), strict=True)
        self._now_by_recorded |= {then: now for then, now in pairs if then != now}

    def _as_recorded(self, text: str) -> str:
        for now, recorded in self._aliases.items():
            text = text.replace(now, recorded)
        return text

    def _as_now(self, output: bytes) -> bytes:
        text = output.decode("utf-8", "surrogateescape")
        text = DYNAMIC.sub(lambda found: self._now_by_recorded.get(found[0], found[0]), text)
        for now, recorded in self._aliases.items():
            text = text.replace(recorded, now)
        return text.encode("utf-8", "surrogateescape")


def _key_of(exchange: Exchange) -> tuple[str, ...]:
    if exchange.kind == "run":
        return "run", normal_form(_BETWEEN_WORDS.join(exchange.words))
    if exchange.kind == "push":
        same = exchange.sha256 if exchange.text is None else normal_form(exchange.text)
        return "push", normal_form(exchange.path), same
    if exchange.kind == "pull":
        return "pull", normal_form(exchange.path)
    return (exchange.kind,)


def _raised(failure: Failure) -> DeviceError | PhoneNotReadyError:
    if failure.kind == "not-ready":
        return PhoneNotReadyError(failure.message, state=failure.state, hint=failure.hint, raw=failure.raw)
    kind = DeviceLostError if failure.kind == "device-lost" else DeviceError
    return kind(failure.message, hint=failure.hint, raw=failure.raw)


def _nothing(asked: str) -> DeviceError:
    return DeviceError(
        f"the bundle does not contain an answer to: {asked[:_SHOWN_CHARACTERS]}",
        hint="It contains only the commands that were sent when it was recorded. Use the version of nasflow "
        "that its first line names, or record it again.",
        raw=asked,
    )
