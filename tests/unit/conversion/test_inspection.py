"""What a model file is made of, and what becomes of one that is damaged."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.altered_models import with_operator_behind

from nasflow.base.errors import ConversionError
from stages.conversion.flatbuffer import network_model
from stages.conversion.inspection import ModelStructure, check_signature, inspect_model
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

NET = SearchSpace(
    name="tiny",
    resolution=16,
    classes=4,
    stem=StemSpec(width=8),
    stages=(StageSpec(width=8, layers=1),),
    head_width=16,
    candidates=(Candidate(kernel=3, expansion=2),),
).network([0])


@pytest.fixture(scope="module")
def model() -> bytes:
    return network_model(NET)


def test_operators_partitions_and_signature_are_told(model: bytes) -> None:
    seen = inspect_model(model)

    assert seen == ModelStructure(
        operator_counts={
            **{"ADD": 1, "CONV_2D": 4, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "MEAN": 1},
            "SOFTMAX": 1,
        },
        delegate_partitions=1,
        undelegated=(),
        input_shape=(1, 16, 16, 3),
        input_type="float32",
        output_shape=(1, 4),
        output_type="float32",
    )
    assert seen.operators == 9
    check_signature(seen, name="tiny", input_shape_NHWC=(1, 16, 16, 3), classes=4)


def test_an_operator_that_xnnpack_leaves_out_splits_the_network(model: bytes) -> None:
    seen = inspect_model(with_operator_behind(model, 0, "LOG_SOFTMAX"))

    assert (seen.delegate_partitions, seen.undelegated) == (2, ("LOG_SOFTMAX",))


def test_another_signature_is_refused(model: bytes) -> None:
    with pytest.raises(ConversionError, match=r"to float32 \[1, 4\]; .* to float32 \[1, 5\]"):
        check_signature(inspect_model(model), name="tiny", input_shape_NHWC=(1, 16, 16, 3), classes=5)


DAMAGES = ("empty", "another format", "cut in half", "cut by one page", "noise", "tensor index out of range")


def damaged(model: bytes) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    noisy = np.frombuffer(model, np.uint8).copy()
    noisy[8:4096:7] = random.integers(0, 256, len(noisy[8:4096:7]))
    out_of_range = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    broken = out_of_range.subgraphs[0].operators[2]
    broken.inputs = [10_000, *broken.inputs[1:]]
    builder = flatbuffers.Builder()
    builder.Finish(out_of_range.Pack(builder), b"TFL3")
    return {
        "empty": b"",
        "another format": b"PK\x03\x04 this is a zip",
        "cut in half": model[: len(model) // 2],
        "cut by one page": model[:-4096],
        "noise": noisy.tobytes(),
        "tensor index out of range": bytes(builder.Output()),
    }


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_model_is_one_clear_error(how: str, model: bytes) -> None:
    file = damaged(model)[how]

    with pytest.raises(ConversionError) as caught:
        inspect_model(file, name="found.tflite")

    assert caught.value.message.startswith(
        f"found.tflite ({len(file)} bytes) is not a usable .tflite model: "
    )
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 6
