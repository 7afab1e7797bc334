"""What a `.tflite` model is made of, and how much of it XNNPACK takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nasflow.base.errors import ConversionError
from stages.conversion.inspector import ModelInspector


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

    ``name`` is what an error calls it. Raises ConversionError where LiteRT cannot open the model, and where
    it has not one input and one output.
    """
    with ModelInspector(timeout_s=timeout_s) as inspector:
        seen = inspector.inspect(model, name=name)
    if len(seen.inputs) != 1 or len(seen.outputs) != 1:
        raise ConversionError(
            f"{name} ({len(model)} bytes) has {len(seen.inputs)} inputs and {len(seen.outputs)} outputs, and "
            "not one of each.",
            hint="Give a model that takes one image and returns one answer for it.",
        )
    (source,), (target,) = seen.inputs, seen.outputs
    return ModelStructure(
        operator_counts=seen.operator_counts,
        delegate_partitions=seen.delegate_partitions or 0,
        undelegated=tuple(seen.undelegated or ()),
        input_shape=tuple(source.shape),
        input_type=source.type,
        output_shape=tuple(target.shape),
        output_type=target.type,
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
