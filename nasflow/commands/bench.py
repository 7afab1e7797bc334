"""``nasflow bench``: how long any models take on a device, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from android_bench.device import BenchmarkRequest, DeviceInfo, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import DeviceError, RunInterruptedError, UsageError
from nasflow.base.text import plain_line, shown_ms
from nasflow.cli.options import AsJson, Config, Device, Offline, Set, selection
from nasflow.cli.request import Action, Outcome, Selection
from nasflow.cli.screen import screen
from nasflow.commands.project import standalone
from nasflow.devices import on_a_phone
from nasflow.model_files import read_model
from pipeline.events import Message, Progress
from pipeline.reporters.reporters import Reporter
from pipeline.store.scratch import FleetingScratch
from stages.measurement.paired import PairedRounds

_LAST_LINES, _WORDS_CHARACTERS = 6, 800
_MOST_NAMED = 3


@dataclass(frozen=True)
class BenchOptions:
    """How models are timed. None: as the configuration says."""

    models: tuple[Path, ...]
    threads: int | None = None
    cpu: str | None = None
    delegate: str | None = None
    rounds: int = 5
    min_ms: float = 500.0

    @property
    def settings(self) -> dict[str, object]:
        """Those that were given, by their keys of the configuration."""
        given = {"threads": self.threads, "cpu": self.cpu, "delegate": self.delegate}
        return {f"runtime.{key}": value for key, value in given.items() if value is not None}


def bench(selection: Selection, options: BenchOptions, *, as_json: bool) -> Outcome:
    """Time models in interleaved rounds, each round in random order.

    Needs no ``pipeline.yaml``; where there is one, it says how phones are reached. Raises UsageError for a
    file that is no model, ConversionError for a damaged one, and whatever the device raises.
    """
    project = standalone(selection, options.settings)
    config = project.config
    requests = _requests(options, config.runtime)
    with ExitStack() as stack:
        reporter = stack.enter_context(closing(screen(as_json=as_json)))
        _check_models(requests, reporter, on_this_computer=not on_a_phone(config.device))
        device = stack.enter_context(
            closing(project.open_device(lambda text: reporter(Message("bench", text))))
        )
        stack.enter_context(_words_told(reporter))
        info = device.info()
        rounds = PairedRounds(FleetingScratch(), device, requests, seed=0)
        while len(rounds) < options.rounds:
            rounds.measure()
            reporter(Progress("bench", len(rounds), options.rounds, "rounds", ""))
    return _outcome(info, config.runtime, {name: rounds.combined(name) for name in requests})


@contextmanager
def _words_told(reporter: Reporter) -> Iterator[None]:
    """Tell what a tool had printed when it failed, for there is no log; and that no timing is kept."""
    try:
        yield
    except RunInterruptedError as stopped:
        raise RunInterruptedError(
            stopped.message,
            signal_number=stopped.signal_number,
            hint="No process is left running and no result is kept: bench starts from the beginning.",
        ) from stopped
    except DeviceError as error:
        if error.raw:
            words = "; ".join(plain_line(line) for line in error.raw.splitlines()[-_LAST_LINES:])
            reporter(Message("bench", f"the tool's last output: {words[-_WORDS_CHARACTERS:]}"))
        raise


def _check_models(
    requests: Mapping[str, BenchmarkRequest], reporter: Reporter, *, on_this_computer: bool
) -> None:
    """Open the files in a process with limits, before a device meets them. Raises ConversionError.

    A phone has a runtime of its own, perhaps with operators that this computer's lacks: its files are only
    read.
    """
    from stages.conversion.inspector import ModelInspector

    with ModelInspector() as inspector:
        for name, request in requests.items():
            seen = inspector.inspect(request.model, name=name, depth="invoke" if on_this_computer else "read")
            if seen.not_finite:
                listed = ", ".join(one.layer or one.tensor for one in seen.not_finite[:_MOST_NAMED])
                reporter(
                    Message(
                        "bench",
                        f"{plain_line(name)} has constants with NaN or infinite values, read by {listed}",
                    )
                )


def _requests(options: BenchOptions, runtime: RuntimeOptions) -> dict[str, BenchmarkRequest]:
    requests: dict[str, BenchmarkRequest] = {}
    for path in options.models:
        content = read_model(path)
        if str(path) in requests:
            raise UsageError(f"{path} is given twice.", hint="Give each file once.")
        requests[str(path)] = BenchmarkRequest(
            name=str(path), model=content, options=runtime, warmup_ms=100.0, min_ms=options.min_ms
        )
    return requests


def _outcome(info: DeviceInfo, runtime: RuntimeOptions, measured: dict[str, LatencyMeasurement]) -> Outcome:
    fastest = min(m.median_ms for m in measured.values())
    width = max(len(name) for name in measured)
    lines = [
        f"{'model':<{width}}  {'median ms':>10}  {'spread':>7}  {'p5 to p95 ms':>19}  {'time/fastest':>12}"
    ]
    lines += [_line(name, m, fastest, width) for name, m in measured.items()]
    virtual = " A simulated phone: these are this computer's latencies." if info.virtual else ""
    where = {cores for m in measured.values() if m.conditions and (cores := m.conditions.describe_cores())}
    words = [plain_line(info.model), plain_line(info.runtime), runtime.describe(info.kind), *sorted(where)]
    lines += ["", f"{', '.join(words)}.{virtual}"]
    return Outcome(
        {
            "device": info.model_copy(update={"serial": ""}).model_dump(mode="json"),
            "runtime": runtime.model_dump(mode="json"),
            "models": [
                {"name": name, **m.model_dump(mode="json"), "time_over_fastest": m.median_ms / fastest}
                for name, m in measured.items()
            ],
        },
        "\n".join(lines),
    )


def _line(name: str, measured: LatencyMeasurement, fastest: float, width: int) -> str:
    median, p5, p95 = (
        shown_ms(value, measured.resolution_ms, unit=False)
        for value in (measured.median_ms, measured.p5_ms, measured.p95_ms)
    )
    between = p5 if p5 == p95 else f"{p5} to {p95}"
    spread = f"±{100 * measured.spread:>4.1f} %" if measured.rounds > 1 else ""  # of one round: unknown
    return (
        f"{plain_line(name):<{width}}  {median:>10}  {spread:>7}"
        f"  {between:>19}  {measured.median_ms / fastest:>12.2f}"
    )


def command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Files that TFLite can run.")],
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="CPU threads.")] = None,
    cpu: Annotated[
        str | None,
        typer.Option(
            "--cpu", metavar="CORES", help="A phone's cores: auto, all, big, little, prime, or a mask."
        ),
    ] = None,
    delegate: Annotated[
        str | None,
        typer.Option(
            "--delegate", metavar="WHAT", help="What runs the models: cpu, or a phone's gpu or npu."
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option("--rounds", min=1, max=1000, metavar="N", help="Rounds; each times every model once."),
    ] = 5,
    offline: Offline = False,
    as_json: AsJson = False,
) -> Action:
    """Time any models on a device, side by side."""

    chosen = selection(config, assignments, device, None, offline=offline)
    options = BenchOptions(tuple(models), threads, cpu, delegate, rounds)
    return lambda: bench(chosen, options, as_json=as_json)
