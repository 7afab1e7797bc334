"""The found network's files, one row for each precision: for the terminal's table and the report's."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.artifact import Record
from stages.documents import ElementType, Precision, VerifiedFile
from stages.reporting.notation import amount, milliseconds, signed

HEADINGS = (
    "file",
    "takes",
    "size",
    "accuracy %",
    "against float32 (95 %)",
    "calibration error %",
    "measured ms",
    "time/float32 (95 %)",
    "operators",
    "partitions",
)


class PrecisionResult(Record):
    """One file of the found network: on all test images, on the device, and what it is made of."""

    precision: Precision
    input_type: ElementType
    fine_tuned: bool
    model_sha256: str
    size_bytes: int
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    accuracy_points: float | None
    accuracy_points_interval_95: tuple[float, float] | None
    calibration_error_percent: float
    median_ms: float
    latency_ratio: float | None
    latency_ratio_interval_95: tuple[float, float] | None
    operators: int
    delegate_partitions: int


def precision_result(file: VerifiedFile) -> PrecisionResult:
    """A file's figures for ``result.json``."""
    same = PrecisionResult.model_fields.keys() - {"model_sha256", "size_bytes", "median_ms"}
    return PrecisionResult(
        **{name: getattr(file, name) for name in same},
        model_sha256=file.model.sha256,
        size_bytes=file.model.size_bytes,
        median_ms=file.measurement.median_ms,
    )


def precision_rows(files: Sequence[PrecisionResult]) -> list[tuple[str, ...]]:
    """The cells of :data:`HEADINGS`; none of one file alone: the table of networks shows it."""
    return [_row(file) for file in files] if len(files) > 1 else []


def _row(file: PrecisionResult) -> tuple[str, ...]:
    points, ratio = "-", "1"
    if file.accuracy_points is not None and file.accuracy_points_interval_95 is not None:
        low, high = file.accuracy_points_interval_95
        points = f"{signed(file.accuracy_points)} ({signed(low)} to {signed(high)})"
    if file.latency_ratio is not None and file.latency_ratio_interval_95 is not None:
        low, high = file.latency_ratio_interval_95
        ratio = f"{file.latency_ratio:.2f} ({low:.2f} to {high:.2f})"
    return (
        f"{file.precision}{', fine-tuned' if file.fine_tuned else ''}",
        file.input_type,
        f"{amount(file.size_bytes)}B",
        f"{file.accuracy_percent:.2f}",
        points,
        f"{file.calibration_error_percent:.1f}",
        milliseconds(file.median_ms),
        ratio,
        str(file.operators),
        str(file.delegate_partitions),
    )
