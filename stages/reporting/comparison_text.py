"""Runs side by side in words and rows: for the terminal and for the page."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nasflow.base.text import plain_line
from stages.reporting.comparison import RunComparison, RunFigures, Seeds
from stages.reporting.cross_text import Liked
from stages.reporting.notation import amount, display_name, milliseconds, signed

HEADINGS = (
    "run",
    "precision",
    "seed",
    "target ms",
    "accuracy % (95 %)",
    "against first, points",
    "measured ms",
    "time/first",
    "speed-up (95 %)",
    "verdict",
    "params",
    "file",
)
_MOST_CHARACTERS = 60


def run_rows(comparison: RunComparison) -> list[tuple[str, ...]]:
    """The cells of :data:`HEADINGS`."""
    return [_row(run) for run in comparison.runs]


def _row(run: RunFigures) -> tuple[str, ...]:
    low, high = run.accuracy_interval_95
    points, ratio = "-", "1"
    if (beside := run.beside_first) is not None:
        least, most = beside.accuracy_points_interval_95
        points = f"{signed(beside.accuracy_points)} ({signed(least)} to {signed(most)})"
        ratio = "-"
        if beside.latency_ratio is not None and beside.latency_ratio_interval_95 is not None:
            fast, slow = beside.latency_ratio_interval_95
            ratio = f"{beside.latency_ratio:.2f} ({fast:.2f} to {slow:.2f})"
    least_speedup, most_speedup = run.speedup_interval_95
    over = display_name(plain_line(run.reference), short=True)
    return (
        plain_line(run.name),
        run.device.precision,
        "-" if run.seed is None else str(run.seed),
        milliseconds(run.target_ms),
        f"{run.accuracy_percent:.2f} ({low:.1f}-{high:.1f})",
        points,
        milliseconds(run.median_ms),
        ratio,
        f"{run.speedup:.2f} ({least_speedup:.2f}-{most_speedup:.2f}) over {over}",
        run.verdict,
        amount(run.parameters),
        f"{amount(run.size_bytes)}B",
    )


def liked_by_runs(comparison: RunComparison) -> list[Liked]:
    """What each run's network is made of, and what its search had learned."""
    return [Liked(plain_line(run.name), run.shares, run.learned, run.net.macs) for run in comparison.runs]


def differing_rows(comparison: RunComparison) -> list[tuple[str, ...]]:
    """The settings in which the runs differ: key, and each run's value."""
    return [(one.key, *map(_value, one.values)) for one in comparison.differing]


def comparison_sentences(comparison: RunComparison) -> list[tuple[str, str]]:
    """(subject, sentence): what the table does not say."""
    said = [
        (
            "Images",
            f"All runs were tested on the same {comparison.test_images:,} images; differences are paired "
            "image by image and hold for these very networks.",
        ),
        ("Devices", _devices(comparison.runs)),
    ]
    if any(run.beside_first and run.beside_first.latency_ratio is not None for run in comparison.runs):
        said.append(
            (
                "Times",
                "The runs were measured at different times: time/first is computed by the latency model's "
                "reference, which each run timed between its networks. To prove a difference, measure both "
                "side by side: nasflow verify MODEL --against MODEL --max-ratio R.",
            )
        )
    for run in comparison.runs[1:]:
        if run.beside_first and run.beside_first.not_compared:
            first = plain_line(comparison.runs[0].name)
            why = run.beside_first.not_compared
            said.append(
                ("Times", f"Latencies of {plain_line(run.name)} and {first} are not compared: {why}.")
            )
    if not comparison.differing:
        said.append(("Settings", "No setting differs: these are runs of the same configuration."))
    return [*said, *(("Seeds", _spread(group)) for group in comparison.seeds)]


def _spread(group: Seeds) -> str:
    names = ", ".join(map(plain_line, group.runs))
    sd_ms = milliseconds(group.median_ms_sd) if group.median_ms_sd else "0"
    return (
        f"{names} differ by their seed alone: accuracy {group.accuracy_percent:.2f} % on average, standard "
        f"deviation {group.accuracy_points_sd:.2f} points; {milliseconds(group.median_ms)} ms, standard "
        f"deviation {sd_ms} ms."
    )


def _devices(runs: Sequence[RunFigures]) -> str:
    by_device: dict[str, list[str]] = {}
    for run in runs:
        device = run.device
        simulated = ", simulated" if device.virtual else ""
        words = f"{device.model}, {device.soc}, {device.runtime}, {device.run_with}{simulated}"
        by_device.setdefault(plain_line(words), []).append(plain_line(run.name))
    if len(by_device) == 1:
        return f"All on {next(iter(by_device))}."
    return "; ".join(f"{', '.join(names)} on {words}" for words, names in by_device.items()) + "."


def _value(value: object) -> str:
    text = (
        "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )
    text = plain_line(text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
