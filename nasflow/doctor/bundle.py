"""``nasflow doctor --bundle``: what a phone answered, as a file that can be sent with a bug report."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from android_bench.bundle.archive import CONTENTS, EXCHANGES, Bundle, write_bundle
from android_bench.bundle.exchange import Exchange, Failure, Finding, Header
from android_bench.bundle.privacy import Scrubber
from android_bench.device import BenchmarkRequest, DeviceInfo, RuntimeOptions
from nasflow.base.errors import IntegrityError, MachineError, UsageError
from nasflow.base.files import TEMPORARY_SUFFIX
from nasflow.base.version import nasflow_version
from nasflow.cli.console import write
from nasflow.doctor.checks import Check

if TYPE_CHECKING:
    from android_bench.bundle.recording import Recorder
    from android_bench.device import Device

MEASUREMENT = "measurement"
"""The part of a bundle that :func:`measure` makes, with a device of its own."""

_ASKED = """\
The checks, and a measurement of about a minute, will record what your phone returns, and write it to
{path}:

  - every command that nasflow sends to the phone, and what the phone prints: the model, the Android
    version, temperatures, battery, clocks of the cores, files in nasflow's own folder, and what
    benchmark_model prints;
  - exit codes and times, and the size and hash of files that are sent to the phone.

Serial numbers, names of phones, computers, people, networks and apps, e-mail and network addresses are
replaced. Only listed properties of the phone are kept. Your photos, messages and personal settings are not
read. Nothing is sent anywhere: the file stays here, and CONTENTS.txt in it lists what is inside.
"""
_QUESTION = "Record it? [y/N] "
_SHOWN_WORDS = 160


def check_target(path: Path) -> None:
    """Refuse a file that cannot be written, before all else. Raises UsageError, MachineError."""
    if path.exists():
        raise UsageError(
            f"{path} already exists.", hint="Choose another name for --bundle, or delete the file first."
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist.", hint="Create it first.")
    try:
        # As it is written later: beside its place, then renamed.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name[:80]}.", suffix=TEMPORARY_SUFFIX):
            pass
    except OSError as error:
        raise MachineError(
            f"{path} cannot be written: {error.strerror or error}. Nothing was recorded.",
            hint="Choose a file in a writable folder: --bundle FILE.",
            raw=str(error),
        ) from error


def ask_leave(path: Path, *, given: bool) -> None:
    """Have the person's leave, given beforehand or here on a terminal. Raises UsageError without it."""
    if given:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "--bundle needs your permission to record what the phone returns, and there is no terminal to "
            "ask.",
            hint="Give it with --bundle FILE --yes. What is recorded: nasflow doctor --help.",
        )
    write(sys.stderr, _ASKED.format(path=path))
    print(_QUESTION, end="", file=sys.stderr, flush=True)  # noqa: T201 - standard output may be a document
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError(
            "nothing was recorded: you did not agree.", hint="Leave out --bundle to run only the checks."
        )


def requests(runtime: RuntimeOptions) -> list[BenchmarkRequest]:
    """What a bundle measures: two small networks, twice. A replay asks for the same."""
    from nasflow.doctor.trial_model import trial_model

    models = [trial_model(resolution, runtime.precision) for resolution in (32, 96)]
    return [
        BenchmarkRequest(name=name, model=model, options=runtime, warmup_ms=50.0, min_ms=200.0)
        for name, model in 2 * models
    ]


def measure(device: Device, runtime: RuntimeOptions) -> Check:
    """Time them. Raises NasflowError."""
    asked = requests(runtime)
    found = [f"{asked[index].name}: {one.median_ms:.3f} ms" for index, one in device.benchmark_many(asked)]
    return Check("phone measurement", "ok", "; ".join(found))


def write_recorded(
    path: Path,
    recorder: Recorder,
    *,
    runtime: RuntimeOptions,
    info: DeviceInfo | None,
    checks: Sequence[Check],
) -> int:
    """Write what was recorded, without what must not be told; its size in bytes.

    Raises MachineError, and IntegrityError where a name is left in it: nothing is written then.
    """
    scrubber = Scrubber(recorder.names)
    for exchange in recorder.exchanges:
        printed = (part.decode("utf-8", "replace") for part in (exchange.stdout, exchange.stderr))
        scrubber.learn_from(exchange.words, *printed)
    exchanges = tuple(_scrubbed(exchange, scrubber) for exchange in recorder.exchanges)
    shown = None if info is None else info.model_copy(update={"serial": ""})
    header = Header(
        nasflow=nasflow_version(),
        runtime=runtime,
        info=None if shown is None else DeviceInfo.model_validate(_each(shown.model_dump(), scrubber.text)),
        findings=tuple(
            Finding(name=check.name, state=check.state, found=scrubber.text(check.found)) for check in checks
        ),
    )
    bundle = Bundle(header, exchanges, "\n".join([*_contents(header, exchanges, scrubber), ""]))
    left = scrubber.found_in("\n".join([bundle.contents, *_texts(header), *map(_all_text, exchanges)]))
    if left:
        raise IntegrityError(
            f"the bundle would still contain {len(left)} names or serial numbers: it was not written.",
            hint="Please report this, and how your phone is connected.",
        )
    return write_bundle(path, bundle)


def _scrubbed(exchange: Exchange, scrubber: Scrubber) -> Exchange:
    failure = exchange.failure
    return exchange.model_copy(
        update={
            "words": tuple(scrubber.command(word) for word in exchange.words),
            "stdout": scrubber.output(exchange.stdout),
            "stderr": scrubber.output(exchange.stderr),
            "path": scrubber.command(exchange.path),
            "text": None if exchange.text is None else scrubber.command(exchange.text),
            "content": None if exchange.content is None else scrubber.binary(exchange.content),
            "failure": failure
            and Failure(
                kind=failure.kind,
                state=failure.state,
                **{name: scrubber.text(getattr(failure, name)) for name in ("message", "hint", "raw")},
            ),
        }
    )


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """A document with its texts changed; its keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(part, change) for key, part in value.items()}
    return [_each(part, change) for part in value] if isinstance(value, list | tuple) else value


def _texts(header: Header) -> Iterator[str]:
    if header.info is not None:
        yield from (value for value in header.info.model_dump().values() if isinstance(value, str))
    yield from (finding.found for finding in header.findings)


def _all_text(exchange: Exchange) -> str:
    """All that was asked and said in one exchange, without JSON's escapes, and without times and hashes."""
    failure = exchange.failure
    said = (exchange.stdout, exchange.stderr, exchange.content or b"")
    return "\n".join(
        [
            *exchange.words,
            *(part.decode("utf-8", "replace") for part in said),
            *(exchange.path, exchange.text or "", exchange.state),
            *((failure.message, failure.hint, failure.raw) if failure else ()),
        ]
    )


def _contents(header: Header, exchanges: Sequence[Exchange], scrubber: Scrubber) -> Iterator[str]:
    """``CONTENTS.txt``: what is in it, for the person whose phone it is."""
    yield "What a phone returned to nasflow, recorded by 'nasflow doctor --bundle'."
    yield f"nasflow {header.nasflow}; {len(exchanges)} exchanges with the phone."
    if header.info is not None:
        yield f"The phone: {header.info.model}, {header.info.soc}, {header.info.os_build}"
    yield f"\nThis file is {CONTENTS}. The other one, {EXCHANGES}, has one line of JSON for each exchange:"
    yield "the command, what was printed (standard output and standard error), the exit code, and the time"
    yield "that it took. Its first line gives the version of nasflow, and the results of its checks."
    yield "\nReplaced or left out:"
    for what, count in sorted(scrubber.replaced.items()):
        yield f"  {count:6}  {what}"
    yield "\nProperties of the phone that were kept (getprop):"
    yield from (f"  {name}" for name in sorted(scrubber.kept_properties))
    for part in dict.fromkeys(exchange.part for exchange in exchanges):
        yield f"\nPart '{part}': what was sent, and how often"
        asked = Counter(_described(exchange) for exchange in exchanges if exchange.part == part)
        yield from (f"  {count:6}  {words}" for words, count in asked.items())
    yield "\nResults of the checks:"
    yield from (f"  {one.state:7}  {one.name}: {one.found}" for one in header.findings)


def _described(exchange: Exchange) -> str:
    if exchange.kind in ("run", "connect"):
        line = " ".join(" ".join(exchange.words).split())
        return line if len(line) <= _SHOWN_WORDS else f"{line[:_SHOWN_WORDS]}..."
    if exchange.kind == "push":
        kept = "with its text" if exchange.text is not None else f"SHA-256 {exchange.sha256[:12]}"
        return f"sent a file of {exchange.size_bytes:,} bytes, {kept}"
    if exchange.kind == "pull":
        return f"fetched {exchange.path.rpartition('/')[2]} ({len(exchange.content or b''):,} bytes)"
    return exchange.kind
