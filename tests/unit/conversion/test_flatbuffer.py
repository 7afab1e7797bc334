"""Directly written `.tflite` files against PyTorch's arithmetic, run by the real LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from torch.nn import functional

from nasflow.base.errors import ConversionError
from stages.conversion.block_weights import random_copies, random_weights, weight_shapes
from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.conversion.inspection_worker import operator_counts
from stages.conversion.softmax import probabilities_of
from stages.space.block_spec import BlockSpec
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

SPACES = {
    "thirty_two_pixels": SearchSpace(
        name="thirty_two_pixels",
        resolution=32,
        classes=10,
        stem=StemSpec(width=16, stride=1),
        stages=(
            StageSpec(width=16, layers=1, fixed=Candidate(kernel=3, expansion=1)),
            StageSpec(width=24, layers=2, stride=2),
            StageSpec(width=40, layers=2, stride=2),
        ),
        head_width=64,
        candidates=tuple(Candidate(kernel=k, expansion=e) for k in (3, 5) for e in (3, 6)),
    ),
    "seven_by_seven": SearchSpace(
        name="seven_by_seven",
        resolution=48,
        classes=5,
        width_multiplier=0.5,
        stem=StemSpec(width=16, kernel=5, stride=2),
        stages=(StageSpec(width=16, layers=2), StageSpec(width=32, layers=2, stride=2)),
        head_width=40,
        candidates=(Candidate(kernel=7, expansion=2), Candidate(kernel=1, expansion=1)),
    ),
}


def run(model: bytes, x_NHWC: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[str]]:
    """Output and operator names, as the interpreter plans them."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x_NHWC)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return output, [operator["op_name"] for operator in interpreter._get_ops_details()]


def same_convolution(
    x_NCHW: torch.Tensor, weight_OIHW: torch.Tensor, bias: torch.Tensor, stride: int, groups: int = 1
) -> torch.Tensor:
    """TensorFlow's SAME: the odd pixel of padding stands at the bottom and on the right."""
    size, kernel = x_NCHW.shape[-1], weight_OIHW.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    padded = functional.pad(x_NCHW, (before, after, before, after))
    return functional.conv2d(padded, weight_OIHW, bias, stride=stride, groups=groups)


def reference(
    blocks: tuple[BlockSpec, ...], weights: Mapping[str, NDArray[np.float32]], x_NHWC: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What the blocks compute, in double precision."""
    tensors = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    x = torch.from_numpy(x_NHWC).double().permute(0, 3, 1, 2)
    for index, block in enumerate(blocks):

        def convolve(
            x: torch.Tensor, name: str, stride: int = 1, groups: int = 1, index: int = index
        ) -> torch.Tensor:
            weight = tensors[f"blocks.{index}.{name}.weight"]
            order = (3, 0, 1, 2) if groups > 1 else (0, 3, 1, 2)
            return same_convolution(
                x, weight.permute(order), tensors[f"blocks.{index}.{name}.bias"], stride, groups
            )

        def gate(x: torch.Tensor, index: int = index) -> torch.Tensor:
            mean = x.mean((2, 3))
            for name, clamp in (("squeeze", functional.relu), ("excite", functional.hardsigmoid)):
                weight = tensors[f"blocks.{index}.{name}.weight"].flatten(1)
                mean = clamp(functional.linear(mean, weight, tensors[f"blocks.{index}.{name}.bias"]))
            return x * mean[:, :, None, None]

        activate = functional.hardswish if block.activation == "hswish" else functional.relu6
        if block.kind == "classifier":
            weight = tensors[f"blocks.{index}.dense.weight"]
            x = functional.linear(x.mean((2, 3)), weight, tensors[f"blocks.{index}.dense.bias"])
        elif block.kind == "mbconv":
            hidden = activate(convolve(x, "expand")) if block.expansion > 1 else x
            hidden = activate(convolve(hidden, "depthwise", block.stride, groups=block.hidden_channels))
            projected = convolve(gate(hidden) if block.squeeze_excite else hidden, "project")
            x = x + projected if block.residual else projected
        elif block.kind == "fused":
            first = "expand" if block.expansion > 1 else "conv"
            hidden = activate(convolve(x, first, block.stride))
            out = convolve(hidden, "project") if block.expansion > 1 else hidden
            x = x + out if block.residual else out
        else:
            x = functional.relu6(convolve(x, "conv", block.stride))
    result: NDArray[np.float32] = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy()
    return result


def image(resolution: int, channels: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(7)
    return generator.uniform(-1, 1, (1, resolution, resolution, channels)).astype(np.float32)


def close(output: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return bool(np.abs(output - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max()))


def check_block(block: BlockSpec) -> None:
    x_NHWC = image(block.resolution, block.in_channels)
    expected = reference((block,), random_weights([block], seed=3), x_NHWC)
    for implementation in block.implementations:
        output, operators = run(block_model(block, implementation, seed=3, output="logits"), x_NHWC)
        assert output.shape == expected.shape
        assert close(output, expected)
        assert operators.count("DELEGATE") == 1
        assert operators[-1] == "DELEGATE"


@pytest.mark.parametrize("name", SPACES)
def test_every_block_of_a_space_computes_what_pytorch_computes(name: str) -> None:
    blocks = SPACES[name].distinct_blocks()
    assert {block.kind for block in blocks} >= {"stem", "mbconv", "head", "classifier"}
    for block in blocks:
        check_block(block)


@pytest.mark.parametrize("kind", ["mbconv", "fused"])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize(("stride", "resolution"), [(1, 8), (1, 9), (2, 8), (2, 9), (2, 1)])
def test_kernels_strides_and_odd_sizes(
    kind: str, kernel: int, expansion: int, stride: int, resolution: int
) -> None:
    check_block(
        BlockSpec.model_validate(
            {
                "kind": kind,
                "kernel": kernel,
                "expansion": expansion,
                "stride": stride,
                "in_channels": 8,
                "out_channels": 8,
                "resolution": resolution,
            }
        )
    )


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("activation", ["relu6", "hswish"])
@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize(("expansion", "stride", "resolution"), [(1, 1, 8), (4, 1, 9), (4, 2, 9), (4, 2, 1)])
def test_squeeze_excite_and_hswish_in_one_delegated_piece(
    squeeze_excite: bool, activation: str, kernel: int, expansion: int, stride: int, resolution: int
) -> None:
    """In all ways of computing the block: at kernel 7 the depthwise convolution in four parts, too."""
    for kind in ("mbconv",) if squeeze_excite else ("mbconv", "fused"):
        check_block(
            BlockSpec.model_validate(
                {
                    "kind": kind,
                    "kernel": kernel,
                    "expansion": expansion,
                    "squeeze_excite": squeeze_excite,
                    "activation": activation,
                    "stride": stride,
                    "in_channels": 8,
                    "out_channels": 8,
                    "resolution": resolution,
                }
            )
        )


@pytest.mark.parametrize("kernel", [7, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("resolution", [1, 2, 7, 8, 9, 14])
def test_the_split_computes_exactly_what_the_whole_kernel_does(
    kernel: int, stride: Literal[1, 2], resolution: int
) -> None:
    block = BlockSpec(
        kind="mbconv",
        kernel=kernel,
        expansion=3,
        stride=stride,
        in_channels=8,
        out_channels=8,
        resolution=resolution,
    )
    x_NHWC = image(resolution, 8)
    native, _ = run(block_model(block, "native"), x_NHWC)
    split, operators = run(block_model(block, "split"), x_NHWC)
    assert close(split, native)
    assert np.abs(native).max() > 0.1
    assert operators.count("DEPTHWISE_CONV_2D") == 4
    assert operators[-1] == "DELEGATE"


COPIED = [
    {"kind": "mbconv", "kernel": 3, "expansion": 3, "in_channels": 8, "out_channels": 8},
    {"kind": "mbconv", "kernel": 7, "expansion": 2, "in_channels": 8, "out_channels": 8},
    {"kind": "mbconv", "kernel": 3, "expansion": 2, "in_channels": 8, "out_channels": 16, "stride": 2},
    {"kind": "fused", "kernel": 3, "expansion": 1, "in_channels": 8, "out_channels": 8},
    {"kind": "head", "in_channels": 8, "out_channels": 8},
    {"kind": "stem", "kernel": 3, "stride": 2, "in_channels": 3, "out_channels": 8},
    {"kind": "classifier", "in_channels": 8, "out_channels": 8},
]


@pytest.mark.parametrize("fields", COPIED, ids=lambda fields: BlockSpec(resolution=9, **fields).key)
def test_copies_of_a_block_stand_in_series_where_they_fit_and_else_side_by_side(
    fields: dict[str, object],
) -> None:
    block = BlockSpec.model_validate({"resolution": 9, **fields})
    assert block.chainable == (block.stride == 1 and block.kind in ("mbconv", "fused", "head"))
    x_NHWC = image(9, block.in_channels)
    weights = random_copies(block, 5, seed=3)
    alone = [
        {f"blocks.0.{name.split('.', 2)[2]}": w for name, w in weights.items() if name.startswith(start)}
        for start in (f"blocks.{index}." for index in range(5))
    ]
    expected = [reference((block,), own, x_NHWC) for own in alone]
    if block.chainable:
        expected = [reference((block,) * 5, weights, x_NHWC)]
    for implementation in block.implementations:
        interpreter = Interpreter(
            model_content=block_model(block, implementation, copies=5, seed=3, output="logits"), num_threads=1
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x_NHWC)
        interpreter.invoke()
        outputs = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
        assert len(outputs) == len(expected)
        assert all(close(output, want) for output, want in zip(outputs, expected, strict=True))
        assert not any(np.array_equal(outputs[0], other) for other in outputs[1:])
        # All copies are computed, in one delegated piece.
        operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
        _, once = run(block_model(block, implementation, output="logits"), x_NHWC)
        assert operators.count("DELEGATE") == 1
        assert len(operators) - 1 == 5 * (len(once) - 1)


def test_one_copy_is_the_model_that_it_always_was() -> None:
    for block in SPACES["seven_by_seven"].distinct_blocks():
        assert block_model(block, copies=1, seed=2) == block_model(block, seed=2)
        same = random_copies(block, 1, seed=2)
        assert all(np.array_equal(w, same[name]) for name, w in random_weights([block], seed=2).items())


@pytest.mark.parametrize("activation", ["relu6", "hswish"])
@pytest.mark.parametrize("kind", ["mbconv", "fused"])
@pytest.mark.parametrize("expansion", [1, 3])
def test_many_copies_in_series_keep_their_values_far_from_denormal_and_infinite_ones(
    kind: str, expansion: int, activation: str
) -> None:
    block = BlockSpec.model_validate(
        {"kind": kind, "kernel": 3, "expansion": expansion, "activation": activation}
        | {"in_channels": 8, "out_channels": 8, "resolution": 4}
    )
    output, _ = run(block_model(block, copies=256), image(4, 8))
    assert np.isfinite(output).all()
    assert 1e-3 < np.abs(output).max() < 1e3


def test_a_block_that_changes_the_width_has_no_residual() -> None:
    block = BlockSpec(kind="mbconv", kernel=3, expansion=2, in_channels=8, out_channels=16, resolution=8)
    _, operators = run(block_model(block), image(8, 8))
    assert "ADD" not in operators
    check_block(block)


def test_a_whole_network_with_given_weights_computes_what_pytorch_computes() -> None:
    net = mobilenet_v2(resolution=32, classes=10, width=0.35, strides=(1, 1, 1, 2, 2, 1, 2, 1))
    weights = random_weights(net.blocks, seed=11)
    x_NHWC = image(32, 3)
    output, operators = run(network_model(net, weights, output="logits"), x_NHWC)
    assert output.shape == (1, 10)
    assert close(output, reference(net.blocks, weights, x_NHWC))
    assert operators.count("DELEGATE") == 1
    assert (operators.count("CONV_2D"), operators.count("DEPTHWISE_CONV_2D")) == (35, 17)
    assert {"PAD", "TRANSPOSE", "RESHAPE"}.isdisjoint(operators)


def test_swapped_weights_are_noticed_by_the_comparison() -> None:
    net = SPACES["thirty_two_pixels"].network((0, 0, 0, 0, 0))
    weights = random_weights(net.blocks, seed=11)
    x_NHWC = image(32, 3)
    wrong = {**weights, "blocks.2.project.weight": weights["blocks.2.project.weight"][::-1]}
    output, _ = run(network_model(net, wrong, output="logits"), x_NHWC)
    assert not close(output, reference(net.blocks, weights, x_NHWC))


def test_activations_stay_far_from_denormal_and_infinite_numbers() -> None:
    net = mobilenet_v2(resolution=32, classes=10)
    output, _ = run(network_model(net, output="logits"), image(32, 3))
    assert np.isfinite(output).all()
    assert 1e-3 < np.abs(output).max() < 1e3
    smallest = min(np.abs(w[w != 0]).min() for w in random_weights(net.blocks).values())
    assert smallest > np.finfo(np.float32).tiny * 1e6


def test_a_softmax_stands_behind_the_logits_alone_in_the_same_piece() -> None:
    net = SPACES["thirty_two_pixels"].network((0, 1, 2, 3, 0))
    x_NHWC = image(32, 3)
    logits, before = run(network_model(net, output="logits"), x_NHWC)
    probabilities, operators = run(network_model(net), x_NHWC)
    assert operators == [*before[:-1], "SOFTMAX", "DELEGATE"]
    np.testing.assert_allclose(probabilities, probabilities_of(logits), rtol=0, atol=1e-6)
    assert probabilities.sum() == pytest.approx(1, abs=1e-6)
    head, classifier = net.blocks[-2:]
    assert block_model(head) == block_model(head, output="logits")
    for copies in (1, 3):
        answers = [block_model(classifier, copies=copies, output=o) for o in ("logits", "probabilities")]
        counts = [operator_counts(model) for model in answers]
        assert counts[1] == {**counts[0], "SOFTMAX": copies}


def test_the_same_seed_gives_the_same_file_and_another_seed_another() -> None:
    block = SPACES["seven_by_seven"].distinct_blocks()[1]
    assert block_model(block, seed=1) == block_model(block, seed=1)
    assert block_model(block, seed=1) != block_model(block, seed=2)


def test_constants_are_aligned_as_the_schema_asks() -> None:
    net = SPACES["thirty_two_pixels"].network((0, 1, 2, 3, 0))
    weights = random_weights(net.blocks, seed=5)
    model = network_model(net, weights)
    for array in weights.values():
        assert model.index(array.tobytes()) % 16 == 0


def test_the_empty_model_runs_in_the_delegate() -> None:
    output, operators = run(empty_model(), np.array([[7.0]], np.float32))
    assert output == 6
    assert operators == ["RELU6", "DELEGATE"]


def test_a_missing_a_superfluous_a_misshapen_and_a_nan_weight_are_named() -> None:
    net = SPACES["thirty_two_pixels"].network((0, 0, 0, 0, 0))
    weights = random_weights(net.blocks)
    assert weights.keys() == weight_shapes(net.blocks).keys()
    without = {name: array for name, array in weights.items() if name != "blocks.0.conv.bias"}
    with pytest.raises(ConversionError, match=r"missing \['blocks.0.conv.bias'\]"):
        network_model(net, without)
    with pytest.raises(ConversionError, match=r"superfluous \['blocks.99.conv.bias'\]"):
        network_model(net, {**weights, "blocks.99.conv.bias": weights["blocks.0.conv.bias"]})
    with pytest.raises(ConversionError, match=r"blocks.0.conv.bias has shape \(3,\)"):
        network_model(net, {**weights, "blocks.0.conv.bias": np.zeros(3, np.float32)})
    with pytest.raises(ConversionError, match=r"blocks.0.conv.bias holds NaN"):
        network_model(net, {**weights, "blocks.0.conv.bias": np.full(16, np.nan, np.float32)})
