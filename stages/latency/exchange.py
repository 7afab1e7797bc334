"""A latency model as one file that another person can read and use: ``nasflow latency export|import``.

The file is JSON with every measurement in it, so that the model can be fitted again from it, by this program
or by another. It is described field by field in artifacts/README.md. A file that comes from elsewhere is not
trusted: its fit is made again from its measurements.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import AwareDatetime, ValidationError

from android_bench.device import DeviceInfo, RuntimeOptions
from nasflow.base.errors import BadMeasurementError, IntegrityError, NasflowError, UsageError
from nasflow.base.files import disk_faults
from nasflow.base.text import plain_line
from pipeline.artifact import Document, flat
from stages.documents import LatencyModel, LatencyTable
from stages.latency.calibration import FEWEST
from stages.latency.model import NetworkTimings, check_of_table, fit_model
from stages.measurement.rounds import assess_again
from stages.space.block_spec import Implementation, ModelOutput
from stages.space.search_space import NetConfig, SearchSpace

SCHEMA_VERSION = 1
OF_LOGITS = 2
"""The schema version of tables and models that were measured without a softmax, all of them."""
MAX_BYTES = 500_000_000
MOST_DIFFERENCES = 3
WIDEST_INTERVAL_PERCENT = 1000.0  # a prediction that may be eleven times off says nothing of a network
_IDENTITY = {
    "device_kind": "kind of device",
    "device_model": "device",
    "soc": "chip",
    "os_build": "OS build",
    "runtime": "runtime",
    "binary_sha256": "benchmark binary",
    "virtual": "virtual device",
    "fixed_performance": "fixed-performance mode",
}


class LatencyFile(Document):
    """What ``nasflow latency export`` writes."""

    format: Literal["nasflow-latency"] = "nasflow-latency"
    schema_version: int = SCHEMA_VERSION
    nasflow_version: str
    exported_at: AwareDatetime
    space: SearchSpace
    table: LatencyTable
    model: LatencyModel


def export(
    space: SearchSpace, table: LatencyTable, model: LatencyModel, *, at: datetime, nasflow_version: str
) -> bytes:
    """The file's content: indented JSON. The device's serial is left out."""

    def nameless(document: LatencyTable | LatencyModel) -> DeviceInfo:
        return document.device.model_copy(update={"serial": ""})

    file = LatencyFile(
        nasflow_version=nasflow_version,
        exported_at=at,
        space=space,
        table=table.model_copy(update={"device": nameless(table)}),
        model=model.model_copy(update={"device": nameless(model)}),
    )
    text = json.dumps(file.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def read_latency_file(
    path: Path, space: SearchSpace, anchor: tuple[str, NetConfig], here: DeviceInfo
) -> LatencyFile:
    """A file that ``export`` wrote, its fit made again from its measurements.

    ``space`` and ``anchor`` are those that it is wanted for, ``here`` is the device. Raises UsageError where
    it is not such a file, is of another space or anchor, is newer than this program, or where rows are
    missing, twice there or impossible; IntegrityError where it is cut off; MachineError where it cannot be
    read.
    """
    with disk_faults(path, "read"):
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(
                f"{path} has {size} bytes; a latency file has at most {MAX_BYTES}.",
                hint="Name a file that 'nasflow latency export' wrote.",
            )
        data = path.read_bytes()
    file = _parse(data, path)
    # First of all: a space that somebody made up could unfold into more blocks than there is memory.
    if file.space != space:
        raise UsageError(
            f"{path} was measured for space {file.space.name}, which is not this configuration's: "
            f"{_differing_spaces(file.space, space)}.",
            hint="Choose that space, or measure this one: nasflow latency.",
        )
    for reference in (file.table.anchor, file.model.reference):
        if (reference.name, reference.net) != anchor:
            raise UsageError(
                f"{path} was measured beside {reference.name}; this configuration wants {anchor[0]}.",
                hint="Set profile.anchor_width as it was there, or measure it here: nasflow latency.",
            )
    _check_rows(file, path)
    return _as_computed(_refitted(file, path), here)


def _as_computed(file: LatencyFile, here: DeviceInfo) -> LatencyFile:
    """With the ways in which a device computes blocks: ONNX Runtime is given none in parts."""
    if not here.runs_onnx:
        return file
    native: dict[str, Implementation] = dict.fromkeys(file.model.implementations, "native")
    rows = tuple(row for row in file.table.rows if row.implementation == "native")
    return file.model_copy(
        update={
            "table": file.table.model_copy(update={"rows": rows}),
            "model": file.model.model_copy(update={"implementations": native}),
        }
    )


def _differing_spaces(there: SearchSpace, here: SearchSpace) -> str:
    """``width_multiplier is 1.0 there and 0.5 here``; of many keys the first three."""
    theirs, ours = flat(there.model_dump(mode="json")), flat(here.model_dump(mode="json"))
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    listed = [
        f"{key} is {_said(theirs.get(key))} there and {_said(ours.get(key))} here"
        for key in keys[:MOST_DIFFERENCES]
    ]
    rest = len(keys) - len(listed)
    return "; ".join([*listed, *([f"{rest} more like that"] if rest else [])])


def _said(value: Any) -> str:
    return "unset" if value is None else _short(value) if isinstance(value, str) else str(value)


def _parse(data: bytes, path: Path) -> LatencyFile:
    def constant(name: str) -> NoReturn:
        raise UsageError(
            f"{path}: {name} is not a latency.", hint="Export it again from where it was measured."
        )

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else constant(_short(digits))

    try:
        content: Any = json.loads(data, parse_constant=constant, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is not complete JSON ({str(error).rstrip('.')}): it may be cut off.",
            hint="Copy or export it again.",
        ) from error
    if not isinstance(content, dict) or content.get("format") != "nasflow-latency":
        raise UsageError(
            f"{path} is not a latency file: it has no format 'nasflow-latency'.",
            hint="Name a file that 'nasflow latency export' wrote.",
        )
    for name, part, known in (
        ("", content, SCHEMA_VERSION),
        ("table.", content.get("table"), LatencyTable.model_fields["schema_version"].default),
        ("model.", content.get("model"), LatencyModel.model_fields["schema_version"].default),
    ):
        version = part.get("schema_version") if isinstance(part, dict) else None
        if isinstance(version, int) and version == known:
            continue
        if name and isinstance(part, dict) and isinstance(version, int) and version == OF_LOGITS:
            part |= {"schema_version": known, "output": "logits"}
            continue
        newer = isinstance(version, int) and version > known
        raise UsageError(
            f"{path}: {name}schema_version is {_short(version)}; this nasflow reads {known}.",
            hint="Upgrade nasflow." if newer else "Export it again from where it was measured.",
        )
    try:
        return LatencyFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        index = ".".join(map(str, first["loc"]))
        more = f" ({error.error_count()} problems in total)" if error.error_count() > 1 else ""
        raise UsageError(
            f"{path}: {index}: {first['msg']}, and it is {_short(first['input'])}{more}.",
            hint="Export it again from where it was measured.",
            raw=str(error),
        ) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_rows(file: LatencyFile, path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for row in file.table.rows:
        name = row.block.key, row.implementation
        if name in seen:
            raise UsageError(
                f"{path} has two rows for block {name[0]} ({name[1]}).",
                hint="Export it again from where it was measured.",
            )
        seen.add(name)
    for block in file.space.distinct_blocks():
        ways = ("native",) if file.table.device.runs_onnx else block.implementations
        if missing := [way for way in ways if (block.key, way) not in seen]:
            raise UsageError(
                f"{path} has no row for block {block.key} ({missing[0]}).",
                hint="Export it again from where it was measured.",
            )
    for part, points in (("calibration", file.model.calibration), ("held_out", file.model.held_out)):
        if len(points) < FEWEST:
            raise UsageError(
                f"{path} has {len(points)} networks under model.{part}; no model can be fitted and evaluated "
                f"by fewer than {FEWEST}.",
                hint="Export it again from where it was measured.",
            )
    if {point.choices for point in file.model.calibration} & {p.choices for p in file.model.held_out}:
        raise UsageError(
            f"{path} evaluates its model on networks that it was fitted to.",
            hint="Export it again from where it was measured.",
        )


def _refitted(file: LatencyFile, path: Path) -> LatencyFile:
    """All that is computed, computed again: what the timings say of drift and table, and the fit."""
    model, table = file.model, file.table
    try:
        beside, shift_percent = assess_again(
            model.timings,
            table.anchor.name,
            None if table.foreign else table.anchor.measurement.median_ms,
        )
        fitted = fit_model(
            file.space,
            table,
            [(p.choices, p.measurement) for p in model.calibration],
            [(p.choices, p.measurement) for p in model.held_out],
            NetworkTimings(
                device=model.device,
                runtime=model.runtime,
                reference=model.reference,
                timings=model.timings,
                seconds=max(0.0, model.seconds - table.seconds),
                table_check=check_of_table(file.space, table, beside),
                shift_percent=shift_percent,
            ),
        )
        _check_says_something(fitted)
    # Numbers may be as large or as small as there are any: what comes of them need be none.
    except (UsageError, BadMeasurementError, ValueError, ArithmeticError) as error:
        reason = error.message if isinstance(error, NasflowError) else str(error)
        raise UsageError(
            f"{path}: no model can be fitted to its measurements ({reason.rstrip('.')}).",
            hint="Export it again from where it was measured.",
        ) from error
    return file.model_copy(update={"model": fitted})


def _check_says_something(model: LatencyModel) -> None:
    """Raises BadMeasurementError where a fitted model predicts nothing."""
    numbers = (model.scale, model.overhead_ms, *model.feasible_ms, *model.block_ms.values())
    if not all(map(math.isfinite, numbers)) or min(model.block_ms.values()) < 0:
        raise BadMeasurementError("the predicted time of some block or network is not a positive number")
    if not model.interval_percent <= WIDEST_INTERVAL_PERCENT:
        raise BadMeasurementError(
            f"a prediction's interval would be ±{model.interval_percent:.3g} %, and more than "
            f"±{WIDEST_INTERVAL_PERCENT:g} % says nothing"
        )


def differences(
    table: LatencyTable,
    model: LatencyModel,
    device: DeviceInfo,
    runtime: RuntimeOptions,
    output: ModelOutput = "probabilities",
) -> tuple[str, ...]:
    """In what the device and the settings that a table was measured with differ from those at hand.

    ``OS build: A in the table, B here``; empty where nothing differs.
    """
    found: list[str] = []
    here = device.identity()
    for document in (table, model):
        there = document.device.identity()
        found += _differing(
            [(_IDENTITY[key], there.get(key, ""), here.get(key, "")) for key in {**there, **here}]
        )
        found += _differing(
            [
                ("threads", str(document.runtime.threads), str(runtime.threads)),
                ("cores", _cores(document.device, document.runtime), _cores(device, runtime)),
                ("delegate", document.runtime.delegate, runtime.delegate),
                ("batch", str(document.runtime.batch), str(runtime.batch)),
                ("precision", document.precision, runtime.precision),
                ("output of networks", document.output, output),
            ]
        )
    return tuple(dict.fromkeys(found))


def _cores(device: DeviceInfo, runtime: RuntimeOptions) -> str:
    """This computer's cores are not chosen: files of before ``auto`` say ``all``."""
    return "all" if device.kind == "local" and runtime.cpu == "auto" else runtime.cpu


def _differing(triples: Sequence[tuple[str, str, str]]) -> list[str]:
    return [
        plain_line(f"{what}: {there or 'none'} in the table, {here or 'none'} here")
        for what, there, here in triples
        if there != here
    ]
