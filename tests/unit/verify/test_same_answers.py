"""Answers of a device beside this computer's, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from android_bench.device import RuntimeOptions
from android_bench.outputs import Outputs, OutputTensor
from nasflow.base.errors import ConversionError
from stages.verification.same_answers import (
    FLOAT_SHARE,
    HALF_SHARE,
    QUANTIZED_SHARE,
    compare_answers,
)

CPU, GPU = RuntimeOptions(), RuntimeOptions(delegate="gpu")
VALUES = np.array([[0.5, -2.0, 1.0], [0.25, 0.0, 1.5]], np.float32)


def outputs(values: np.ndarray = VALUES, *, quantized: bool = False) -> Outputs:
    """Two outputs: the values, and twice an index."""
    tensors = (OutputTensor((1, 3), "float32"), OutputTensor((1,), "int32"))
    index = np.array([7], np.int32).tobytes()
    return Outputs(tensors, quantized, tuple(row.tobytes() + index for row in values))


def test_answers_that_differ_by_rounding_are_the_same() -> None:
    there = outputs(VALUES * np.float32(1 + 1e-5)).values
    found = compare_answers("m", outputs(), there, CPU, given=True)
    assert (found.inputs, found.given, found.allowed_share) == (2, True, FLOAT_SHARE)
    assert 0 < found.largest_share == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize(
    ("options", "quantized", "allowed"),
    [(CPU, False, FLOAT_SHARE), (GPU, False, HALF_SHARE), (CPU, True, QUANTIZED_SHARE)],
)
def test_what_is_allowed_depends_on_what_computes(
    options: RuntimeOptions, quantized: bool, allowed: float
) -> None:
    here = outputs(quantized=quantized)
    for factor, holds in ((0.9, True), (1.1, False)):
        other = VALUES.copy()
        other[1, 2] += np.float32(2.0 * allowed * factor)
        if holds:
            compare_answers("m", here, outputs(other).values, options, given=False)
        else:
            with pytest.raises(ConversionError, match=r"output 0 differs by up to .* for input 1"):
                compare_answers("m", here, outputs(other).values, options, given=False)


def test_an_output_that_is_nothing_but_zeros_has_to_be_zeros() -> None:
    here = outputs(np.zeros_like(VALUES))
    compare_answers("m", here, here.values, CPU, given=False)
    with pytest.raises(ConversionError, match="answers differently"):
        compare_answers("m", here, outputs(VALUES * np.float32(1e-9)).values, CPU, given=False)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_on_the_device_is_refused(wrong: float) -> None:
    other = VALUES.copy()
    other[1, 0] = wrong
    with pytest.raises(ConversionError, match="m on the device answers with NaN or infinity for 1 of 2"):
        compare_answers("m", outputs(), outputs(other).values, CPU, given=False)


def test_answers_of_another_size_are_refused() -> None:
    with pytest.raises(ConversionError, match="with 4 bytes, and here with 16"):
        compare_answers("m", outputs(), [outputs().values[0], b"1234"], CPU, given=False)
