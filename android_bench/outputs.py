"""What a model answers, as the bytes of all its outputs one after the other.

That is what the classic ``benchmark_model`` writes with ``--output_filepath``: each output tensor's memory,
in the model's order, little endian (``OutputSaver`` in ``tensorflow/lite/tools/benchmark/
benchmark_tflite_model.cc``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from android_bench.device import RuntimeOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Example = Sequence["NDArray[Any]"]
"""A value for each of a model's inputs, in the model's order, of the input's own shape and type."""

NUMBERS = frozenset(
    {"float16", "float32", "float64", "bool", "int8", "uint8", "int16", "uint16"}
    | {"int32", "uint32", "int64", "uint64"}
)
"""Types of outputs that are compared: numpy's names."""


@dataclass(frozen=True)
class OutputTensor:
    """One output: numpy's name of its type; ``scale`` 0: its values are the numbers themselves."""

    shape: tuple[int, ...]
    type: str
    scale: float = 0.0
    zero: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of one answer."""
        import numpy as np

        return math.prod(self.shape) * int(np.dtype(self.type).itemsize)


@dataclass(frozen=True)
class Outputs:
    """A model's answers to several examples. ``quantized``: something in it is of 8 or 16 bits."""

    tensors: tuple[OutputTensor, ...]
    quantized: bool
    values: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the answer to one example."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    def numbers(self, values: Sequence[bytes] | None = None) -> list[NDArray[np.float64]]:
        """For each output the numbers (examples, elements) that it stands for.

        ``values``: another device's answers to the same examples, of :attr:`size_bytes` each.
        """
        import numpy as np

        answers = self.values if values is None else values
        found, at = [], 0
        for tensor in self.tensors:
            part = slice(at, at + tensor.size_bytes)
            rows = [np.frombuffer(one[part], tensor.type) for one in answers]
            stored = np.stack(rows).astype(np.float64)
            found.append((stored - tensor.zero) * tensor.scale if tensor.scale else stored)
            at = part.stop
        return found


@runtime_checkable
class WritesOutputs(Protocol):
    """A device that may tell what a model answers, and not only how long it takes."""

    def output_bytes(
        self, model: bytes, examples: Sequence[Example], options: RuntimeOptions
    ) -> list[bytes] | None:
        """For each example the bytes of all outputs; None where this device's runner cannot write them.

        Raises DeviceError where the model does not run.
        """
