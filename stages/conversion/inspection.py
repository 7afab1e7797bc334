"""What a `.tflite` model is made of, and how much of it XNNPACK takes over.

A damaged model can bring LiteRT down, so it is opened in a child process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nasflow.base.errors import ConversionError
from nasflow.base.files import disk_faults
from stages.conversion.converter import manner_of_death

WORKER = "stages.conversion.inspection_worker"


@dataclass(frozen=True)
class ModelStructure:
    """A model's operators, its delegate partitions and its signature.

    ``undelegated`` are the operators that LiteRT runs itself, one by one, in the order of the graph. Types
    are numpy's names (``float32``).
    """

    operator_counts: Mapping[str, int]
    delegate_partitions: int
    undelegated: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_type: str
    output_shape: tuple[int, ...]
    output_type: str

    @property
    def operators(self) -> int:
        """How many operators the file holds."""
        return sum(self.operator_counts.values())


def inspect_model(model: bytes, *, name: str = "model", timeout_s: float = 120.0) -> ModelStructure:
    """Open a model with LiteRT in a child process and tell what it is.

    ``name`` is what an error calls it. Raises ConversionError where LiteRT cannot open the model.
    """
    with tempfile.TemporaryDirectory(prefix="nasflow-inspect-") as folder:
        path = Path(folder) / "network.tflite"
        with disk_faults(path, "write"):
            path.write_bytes(model)
        try:
            child = subprocess.run(
                [sys.executable, "-P", "-m", WORKER, str(path)],
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _unusable(model, name, f"was not done within {timeout_s:g} s", "") from error
    if child.returncode != 0:
        words = child.stderr.strip()
        last = f" ({words.splitlines()[-1].strip()})" if words and child.returncode > 0 else ""
        raise _unusable(model, name, manner_of_death(child.returncode) + last, words)
    seen = json.loads(child.stdout)
    return ModelStructure(
        operator_counts=seen["operator_counts"],
        delegate_partitions=seen["delegate_partitions"],
        undelegated=tuple(seen["undelegated"]),
        input_shape=tuple(seen["input_shape"]),
        input_type=seen["input_type"],
        output_shape=tuple(seen["output_shape"]),
        output_type=seen["output_type"],
    )


def check_signature(
    structure: ModelStructure,
    *,
    name: str,
    input_shape_NHWC: tuple[int, ...],
    classes: int,
    input_type: str = "float32",
) -> None:
    """Refuse a model with another signature. Raises ConversionError."""
    seen = (structure.input_shape, structure.input_type, structure.output_shape, structure.output_type)
    expected = (input_shape_NHWC, input_type, (1, classes), "float32")
    if seen != expected:
        raise ConversionError(
            f"network {name} was converted to a model from {seen[1]} {list(seen[0])} to {seen[3]} "
            f"{list(seen[2])}; expected {expected[1]} {list(expected[0])} (NHWC) to {expected[3]} "
            f"{list(expected[2])}.",
            hint="The conversion changed the data layout wrongly; please report this network.",
        )


def _unusable(model: bytes, name: str, what: str, words: str) -> ConversionError:
    return ConversionError(
        f"{name} ({len(model)} bytes) is not a usable .tflite model: the process that opened it {what}.",
        hint="The file is damaged or needs operators that this LiteRT lacks; convert it again.",
        raw=words,
    )
