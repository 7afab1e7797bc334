"""Answers compared before a gate measures: devices that answer otherwise, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.operator_models import one_operator
from support.scripted_device import ScriptedDevice

from android_bench.device import DEFAULT_OPTIONS, RuntimeOptions
from android_bench.outputs import Example
from nasflow.base.errors import ConversionError, UsageError
from nasflow.gate.answers import Answers, answers_compared
from nasflow.gate.subjects import Subject
from stages.conversion.inspector import ModelInspector

FLOAT32 = schema.TensorType.FLOAT32
DOUBLE = one_operator(
    schema.BuiltinOperator.ADD,
    [([1, 4], FLOAT32), ([1, 4], FLOAT32)],
    ([1, 4], FLOAT32),
    schema.AddOptionsT(),
)


class AnsweringPhone(ScriptedDevice):
    """A phone that computes a sum, and adds ``error`` to the first number of the last example."""

    error = 0.0

    def output_bytes(
        self, model: bytes, examples: Sequence[Example], options: RuntimeOptions
    ) -> list[bytes] | None:
        sums = [np.add(*example) for example in examples]
        sums[-1][0, 0] += self.error
        return [one.astype(np.float32).tobytes() for one in sums]


PRODUCT = one_operator(
    schema.BuiltinOperator.MUL,
    [([1, 4], FLOAT32), ([1, 4], FLOAT32)],
    ([1, 4], FLOAT32),
    schema.MulOptionsT(),
)


def subject(content: bytes = DOUBLE, name: str = "sum.tflite") -> Subject:
    with ModelInspector() as inspector:
        return Subject(name, content, inspector.inspect(content, depth="read"))


def compared(
    device: Any, one: Subject, told: list[str], *, baseline: Subject | None = None, required: bool = False
) -> Answers:
    return answers_compared(
        one, baseline or one, device, DEFAULT_OPTIONS, folder=None, required=required, tell=told.append
    )


def test_a_phone_that_computes_the_same_is_said_to() -> None:
    told: list[str] = []
    found = compared(AnsweringPhone({}), subject(), told, required=True)
    assert found.candidate is not None
    assert (found.candidate.inputs, found.candidate.given) == (4, False)
    assert found.candidate.largest_share <= 1e-6
    assert found.baseline == found.candidate, "one model, asked once"
    assert told == []


def test_a_baseline_that_the_device_computes_wrongly_ends_the_gate_too() -> None:
    product = subject(PRODUCT, "product.tflite")
    with pytest.raises(ConversionError, match=r"product\.tflite answers differently on the device"):
        compared(AnsweringPhone({}), subject(), [], baseline=product)


def test_a_phone_that_computes_something_else_ends_the_gate() -> None:
    device = AnsweringPhone({})
    device.error = 0.5
    with pytest.raises(
        ConversionError, match=r"answers differently on the device: output 0 .* for input 3"
    ) as it:
        compared(device, subject(), [])
    assert it.value.exit_code == 6
    device.error = float("nan")
    with pytest.raises(ConversionError, match="on the device answers with NaN or infinity for 1 of 4"):
        compared(device, subject(), [])


def test_a_device_that_only_tells_times_is_said_or_refused() -> None:
    told: list[str] = []
    assert compared(ScriptedDevice({}), subject(), told) == Answers(None, None)
    assert told == ["outputs not compared on the device: this device only tells times."]
    with pytest.raises(UsageError, match="outputs not compared on the device"):
        compared(ScriptedDevice({}), subject(), told, required=True)
