"""Each supported ONNX operator, as ONNX's own reference computes it and as LiteRT does after conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.converter import TensorflowConverter
from stages.conversion.inspection import inspect_model
from stages.conversion.onnx_graph import SUPPORTED_OPERATORS, read_graph
from stages.conversion.rewrite import simplify

Step = tuple[str, list[str], dict[str, Any]]


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def batch_norm(channels: int) -> dict[str, NDArray[Any]]:
    return {
        "gamma": 1 + weights(channels, seed=1),
        "beta": weights(channels, seed=2),
        "mean": weights(channels, seed=3),
        "variance": np.abs(weights(channels, seed=4)) + 0.1,
    }


BN = ["gamma", "beta", "mean", "variance"]


@dataclass(frozen=True)
class Case:
    """A chain of steps: each reads ``x`` or an earlier step's output ``s<place>``; the last is the output."""

    steps: Sequence[Step]
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    shape: tuple[int, ...] = (1, 6, 8, 9)

    def onnx_model(self) -> bytes:
        nodes = [
            helper.make_node(operator, inputs, [f"s{index}"], name=f"node{index}", **attributes)
            for index, (operator, inputs, attributes) in enumerate(self.steps)
        ]
        graph = helper.make_graph(
            nodes,
            "case",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(f"s{len(nodes) - 1}", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


CASES = {
    "conv_same": Case(
        [("Conv", ["x", "w", "b"], {"pads": [1, 1, 1, 1]})],
        {"w": weights(4, 6, 3, 3), "b": weights(4)},
    ),
    "conv_same_at_stride_2_pads_below_and_right": Case(
        [("Conv", ["x", "w"], {"pads": [0, 1, 1, 1], "strides": [2, 2]})], {"w": weights(4, 6, 3, 3)}
    ),
    "conv_without_padding": Case(
        [("Conv", ["x", "w"], {"strides": [2, 1]})], {"w": weights(4, 6, 3, 2)}
    ),
    "conv_auto_pad": Case(
        [("Conv", ["x", "w"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]})], {"w": weights(4, 6, 3, 3)}
    ),
    "conv_dilated": Case(
        [("Conv", ["x", "w"], {"pads": [2, 2, 2, 2], "dilations": [2, 2]})], {"w": weights(4, 6, 3, 3)}
    ),
    "conv_grouped": Case(
        [("Conv", ["x", "w", "b"], {"pads": [1, 1, 1, 1], "group": 2})],
        {"w": weights(8, 3, 3, 3), "b": weights(8)},
    ),
    "depthwise": Case(
        [("Conv", ["x", "w", "b"], {"pads": [2, 2, 2, 2], "group": 6})],
        {"w": weights(6, 1, 5, 5), "b": weights(6)},
    ),
    "depthwise_with_two_outputs_per_channel": Case(
        [("Conv", ["x", "w"], {"pads": [1, 1, 1, 1], "group": 6})], {"w": weights(12, 1, 3, 3)}
    ),
    "depthwise_dilated": Case(
        [("Conv", ["x", "w"], {"pads": [2, 2, 2, 2], "dilations": [2, 2], "group": 6})],
        {"w": weights(6, 1, 3, 3)},
    ),
    "pad_conv_bn_relu6": Case(
        [
            ("Pad", ["x", "pads", "zero"], {}),
            ("Conv", ["s0", "w"], {"strides": [2, 2], "pads": [0, 1, 0, 1]}),
            ("BatchNormalization", ["s1", *BN], {"epsilon": 1e-3}),
            ("Clip", ["s2", "zero", "six"], {}),
        ],
        {
            "pads": integers(0, 0, 0, 0, 0, 0, 1, 0),
            "zero": scalar(0),
            "six": scalar(6),
            "w": weights(4, 6, 3, 3),
            **batch_norm(4),
        },
    ),
    "bn_behind_a_biased_depthwise": Case(
        [
            ("Conv", ["x", "w", "b"], {"pads": [1, 1, 1, 1], "group": 6}),
            ("BatchNormalization", ["s0", *BN], {}),
        ],
        {"w": weights(6, 1, 3, 3), "b": weights(6), **batch_norm(6)},
    ),
    "bn_alone": Case([("BatchNormalization", ["x", *BN], {})], batch_norm(6)),
    "bn_behind_a_convolution_that_is_read_twice": Case(
        [
            ("Conv", ["x", "w"], {}),
            ("BatchNormalization", ["s0", *BN], {}),
            ("Add", ["s0", "s1"], {}),
        ],
        {"w": weights(6, 6, 1, 1), **batch_norm(6)},
    ),
    "relu": Case([("Relu", ["x"], {})]),
    "clip_from_below": Case([("Clip", ["x", "low"], {})], {"low": scalar(0)}),
    "clip_between": Case(
        [("Clip", ["x", "low", "high"], {})], {"low": scalar(-0.5), "high": scalar(0.25)}
    ),
    "hard_swish": Case([("HardSwish", ["x"], {})]),
    "hard_sigmoid": Case([("HardSigmoid", ["x"], {"alpha": 1 / 6})]),
    "hard_sigmoid_with_another_slope": Case([("HardSigmoid", ["x"], {"alpha": 0.2, "beta": 0.4})]),
    "add_a_constant_per_channel": Case([("Add", ["c", "x"], {})], {"c": weights(6, 1, 1)}),
    "add_itself_through_identity": Case([("Identity", ["x"], {}), ("Add", ["x", "s0"], {})]),
    "squeeze_and_excitation": Case(
        [
            ("ReduceMean", ["x", "axes"], {"keepdims": 1}),
            ("Conv", ["s0", "w"], {}),
            ("HardSigmoid", ["s1"], {"alpha": 1 / 6}),
            ("Mul", ["x", "s2"], {}),
        ],
        {"axes": integers(-1, -2), "w": weights(6, 6, 1, 1)},
    ),
    "squeeze_and_excitation_with_dense_layers": Case(
        [
            ("ReduceMean", ["x", "axes"], {"keepdims": 0}),
            ("Gemm", ["s0", "w", "b"], {"transB": 1}),
            ("Reshape", ["s1", "shape"], {}),
            ("Mul", ["s2", "x"], {}),
        ],
        {"axes": integers(2, 3), "w": weights(6, 6), "b": weights(6), "shape": integers(1, 6, 1, 1)},
    ),
    "global_average_pool_flatten_gemm": Case(
        [
            ("GlobalAveragePool", ["x"], {}),
            ("Flatten", ["s0"], {}),
            ("Gemm", ["s1", "w", "b"], {"alpha": 2.0, "beta": 0.5}),
        ],
        {"w": weights(6, 5), "b": weights(5)},
    ),
    "flatten_of_many_places_reorders_the_weights": Case(
        [("Flatten", ["x"], {}), ("Relu", ["s0"], {}), ("Gemm", ["s1", "w"], {"transB": 1})],
        {"w": weights(5, 6 * 8 * 9)},
    ),
    "reshape_matmul_add": Case(
        [
            ("Reshape", ["x", "shape"], {}),
            ("MatMul", ["s0", "w"], {}),
            ("Add", ["s1", "b"], {}),
        ],
        {"shape": integers(1, -1), "w": weights(6 * 8 * 9, 5), "b": weights(5)},
    ),
}  # fmt: skip


def to_nhwc(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def run(
    case: Case, converter: TensorflowConverter, here: LocalDevice
) -> tuple[NDArray[np.float32], NDArray[np.float32], bytes]:
    """What ONNX's reference computes (NHWC), what LiteRT computes, and the model."""
    model = converter.convert(case.onnx_model(), name="case")
    x_NCHW = np.random.default_rng(7).normal(0, 2, case.shape).astype(np.float32)
    reference = ReferenceEvaluator(onnx.load_model_from_string(case.onnx_model()))
    (expected,) = reference.run(None, {"x": x_NCHW})
    return to_nhwc(expected), here.run_model(model, to_nhwc(x_NCHW)), model


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_says(
    name: str, converter: TensorflowConverter, here: LocalDevice
) -> None:
    expected, seen, _ = run(CASES[name], converter, here)

    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)


def test_every_supported_operator_is_tried() -> None:
    assert {operator for case in CASES.values() for operator, _, _ in case.steps} == SUPPORTED_OPERATORS


def test_padding_and_batch_norm_leave_no_operator_of_their_own(
    converter: TensorflowConverter, here: LocalDevice
) -> None:
    _, _, model = run(CASES["pad_conv_bn_relu6"], converter, here)

    assert inspect_model(model).operator_counts == {"CONV_2D": 1}


def test_padding_that_is_not_tensorflows_same_is_computed_and_kept_as_a_pad(
    converter: TensorflowConverter, here: LocalDevice
) -> None:
    case = Case(
        [("Conv", ["x", "w"], {"pads": [1, 1, 1, 1], "strides": [2, 2]})],
        {"w": weights(4, 6, 3, 3)},
        shape=(1, 6, 8, 8),
    )

    expected, seen, model = run(case, converter, here)

    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert inspect_model(model).operator_counts == {"CONV_2D": 1, "PAD": 1}


def test_padding_with_another_value_than_zero_is_kept(
    converter: TensorflowConverter, here: LocalDevice
) -> None:
    case = Case(
        [("Pad", ["x", "pads", "one"], {}), ("Conv", ["s0", "w"], {})],
        {"pads": integers(0, 0, 1, 1, 0, 0, 1, 1), "one": scalar(1), "w": weights(4, 6, 3, 3)},
    )

    expected, seen, model = run(case, converter, here)

    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert inspect_model(model).operator_counts == {"CONV_2D": 1, "PADV2": 1}


def test_padding_that_something_else_reads_too_is_kept() -> None:
    case = Case(
        [
            ("Pad", ["x", "pads"], {}),
            ("Conv", ["s0", "w"], {}),
            ("GlobalAveragePool", ["s0"], {}),
            ("Mul", ["s1", "s2"], {}),
        ],
        {"pads": integers(0, 0, 1, 1, 0, 0, 1, 1), "w": weights(6, 6, 3, 3)},
    )

    assert [node.operator for node in simplify(read_graph(case.onnx_model())).nodes] == [
        operator for operator, _, _ in case.steps
    ]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "size"), [(7, 8), (7, 9), (9, 10)])
def test_a_split_depthwise_convolution_computes_what_the_whole_one_does(
    stride: int, kernel: int, size: int, converter: TensorflowConverter, here: LocalDevice
) -> None:
    total = (-(-size // stride) - 1) * stride + kernel - size  # TensorFlow's SAME
    pads = [total // 2] * 2 + [total - total // 2] * 2
    case = Case(
        [
            ("Conv", ["x", "w", "b"], {"pads": pads, "strides": [stride, stride], "group": 6}),
            ("Clip", ["s0", "zero", "six"], {}),
        ],
        {"w": weights(6, 1, kernel, kernel), "b": weights(6), "zero": scalar(0), "six": scalar(6)},
        shape=(1, 6, size, size),
    )
    x_NCHW = np.random.default_rng(7).normal(0, 2, case.shape).astype(np.float32)
    (expected,) = ReferenceEvaluator(onnx.load_model_from_string(case.onnx_model())).run(None, {"x": x_NCHW})

    model = converter.convert(case.onnx_model(), name="case", split=[0])

    np.testing.assert_allclose(
        here.run_model(model, to_nhwc(x_NCHW)), to_nhwc(expected), rtol=1e-4, atol=1e-5
    )
    # Bias and ReLU6 are fused, and there is no PAD.
    assert inspect_model(model).operator_counts == {"DEPTHWISE_CONV_2D": 4, "ADD": 3}


def test_a_split_of_what_is_not_there_is_refused() -> None:
    case = Case([("Conv", ["x", "w"], {"group": 6})], {"w": weights(6, 1, 3, 3)})
    with pytest.raises(ConversionError, match="depthwise convolution 1 is to be split; there are 1"):
        simplify(read_graph(case.onnx_model()), split=[1])


REFUSED = {
    "MaxPool": (Case([("MaxPool", ["x"], {"kernel_shape": [2, 2]})]), "operator MaxPool (node node0)"),
    "mean over channels": (
        Case([("ReduceMean", ["x", "axes"], {})], {"axes": integers(1)}),
        "axes [1]",
    ),
    "flattened image at the end": (Case([("Flatten", ["x"], {})]), "ends with a flattened image"),
    "flattened image plus constant": (
        Case([("Flatten", ["x"], {}), ("Add", ["s0", "c"], {})], {"c": weights(432)}),
        "works on a flattened image",
    ),
    "reshape to another image": (
        Case([("Reshape", ["x", "shape"], {})], {"shape": integers(1, 12, 4, 9)}),
        "to [1, 12, 4, 9] (NCHW)",
    ),
    "matmul of images": (
        Case([("MatMul", ["x", "w"], {})], {"w": weights(9, 4)}),
        "only a vector times a matrix",
    ),
    "padding upwards": (
        Case([("Conv", ["x", "w"], {"auto_pad": "SAME_LOWER"})], {"w": weights(4, 6, 3, 3)}),
        "its padding is SAME_LOWER",
    ),
    "depthwise with unequal strides": (
        Case([("Conv", ["x", "w"], {"group": 6, "strides": [1, 2]})], {"w": weights(6, 1, 3, 3)}),
        "with the strides (1, 2)",
    ),
    "computed weights": (
        Case([("Relu", ["x"], {}), ("Conv", ["x", "s0"], {})], shape=(1, 9, 8, 9)),
        "its input 1 is computed",
    ),
    "reflected padding": (
        Case([("Pad", ["x", "pads"], {"mode": "reflect"})], {"pads": integers(0, 0, 1, 1, 0, 0, 1, 1)}),
        "only constant padding",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_translation_is_named(name: str, converter: TensorflowConverter) -> None:
    case, words = REFUSED[name]

    with pytest.raises(ConversionError) as caught:
        converter.convert(case.onnx_model(), name="odd")

    assert words in caught.value.message
    assert caught.value.message.startswith("network odd: ")
    assert caught.value.exit_code == 6


def test_an_unsupported_operator_is_refused_with_the_list_of_supported_ones() -> None:
    case, _ = REFUSED["MaxPool"]

    with pytest.raises(ConversionError) as caught:
        read_graph(case.onnx_model())

    assert "operator MaxPool (node node0) cannot be converted to TFLite" in caught.value.message
    assert all(operator in caught.value.hint for operator in SUPPORTED_OPERATORS)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 8), (1, 3, 0, 8)])
def test_an_input_that_is_not_one_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConversionError, match=r"not one float32 image of fixed size \(1, C, H, W\)"):
        read_graph(Case([("Relu", ["x"], {})], shape=shape).onnx_model())


def test_a_file_that_is_not_onnx_is_refused() -> None:
    with pytest.raises(ConversionError, match="the ONNX model is not valid"):
        read_graph(b"\x08\x0anot a model at all")
