"""The made-up inputs of models that are only timed or compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INPUT_SEED = 0
"""The same for every model and process."""
_INDEX_END = 100


def made_up(
    generator: np.random.Generator, shape: tuple[int, ...], kind: np.dtype[Any]
) -> NDArray[Any] | None:
    """Random values of an input; None for a type that is no number.

    Floating-point numbers lie in [-1, 1], integers of 8 and 16 bits have their whole range. Not zeros, which
    some kernels skip, and not whatever lies in memory, which may hold denormal numbers. Larger integers are
    mostly indices, and are below 100, as ``benchmark_model`` has them (``tflite/tools/utils.cc``,
    ``GetDataRangesForType``).
    """
    import numpy as np

    if kind.kind == "f":
        return generator.uniform(-1, 1, shape).astype(kind)
    if kind.kind == "b":
        return generator.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize > 2:
        return generator.integers(0, _INDEX_END, shape, kind)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, kind, endpoint=True)
    return None
