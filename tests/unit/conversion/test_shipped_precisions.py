"""Random networks of every space that ships, written directly, in float16 and in int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from unit.conversion.test_shipped_spaces import (
    PRECISIONS,
    WAYS,
    expected,
    networks,
    small,
    ways,
    without_changes_of_type,
)

from stages.conversion.block_weights import random_weights
from stages.conversion.flatbuffer import network_model
from stages.conversion.lint import GraphPrecision, lint_graph
from stages.conversion.quantize import in_precision
from stages.data.model_input import model_input
from stages.space import shipped_spaces

WRITTEN = 200
EVERY = 4
"""Of the 200 that float32 is tested with: writing a network takes 0.02 s, making it int8 another 0.1 s."""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", shipped_spaces())
def test_random_networks_are_written_in_other_precisions_as_they_are_described(
    name: str, precision: GraphPrecision
) -> None:
    """With made-up ranges, as latency tables are made; structure and lint of all, LiteRT runs some."""
    image_NHWC = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    changes = {"QUANTIZE": 1, "DEQUANTIZE": 1} if precision == "int8" else {"QUANTIZE": 0}
    for number, net in enumerate(networks(small(name), WRITTEN)[::EVERY]):
        way = WAYS[number % 2]
        implementations = ways(net, "native") | ways(net, way)
        plain = network_model(net, random_weights(net.blocks), implementations=implementations)
        model = in_precision(plain, precision)

        found = lint_graph(model, precision=precision, delegate="gpu")

        assert without_changes_of_type(found.operator_counts) == expected(net.blocks, way)
        assert {kind: found.operator_counts.get(kind, 0) for kind in changes} == changes
        assert (found.findings, found.delegate_partitions) == ((), 1)
        if number % 9 == 0:  # of both ways
            element = "uint8" if precision == "int8" else "float32"
            assert answer(model, model_input(image_NHWC, element)).sum() == pytest.approx(1, abs=1e-5)


def answer(model: bytes, image_NHWC: NDArray[Any]) -> NDArray[np.float32]:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image_NHWC)
    interpreter.invoke()
    probabilities: NDArray[np.float32] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return probabilities
