"""PyTorch to TFLite, end to end: structure, arithmetic, and the ways in which a wrong model is caught."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.chain import Limits, convert_module, finish_network
from stages.conversion.config import ConvertConfig
from stages.conversion.converter import TensorflowConverter
from stages.conversion.edges import Steps
from stages.conversion.export import export_onnx
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import folded_weights
from stages.conversion.inspection import inspect_model
from stages.conversion.onnx_graph import read_graph
from stages.conversion.parity import Tolerance
from stages.conversion.rewrite import simplify
from stages.data.grey import GreyImages
from stages.documents import ConversionCheck
from stages.nn.blocks import SameConv2d

DEFAULTS = ConvertConfig()
LIMITS = Limits(
    images=DEFAULTS.images,
    tolerance=Tolerance(DEFAULTS.max_relative_diff, DEFAULTS.min_top1_agreement_percent, DEFAULTS.min_snr_db),
    one_partition=DEFAULTS.require_one_partition,
)
ROUNDING = 5e-5  # of the largest logit: float32 itself is off by up to 2e-5 in a network this deep
Check = Callable[[Steps], ConversionCheck]


@pytest.fixture
def check(validation_images: GreyImages, converter: TensorflowConverter, here: LocalDevice) -> Check:
    return lambda steps: finish_network(steps, validation_images, converter, here, LIMITS, name="trial").check


def test_mobilenet_v2_becomes_64_operators_and_a_softmax_in_one_piece_and_computes_the_same(
    mobilenet, check: Check
) -> None:
    seen = check(mobilenet.steps)

    assert seen.operator_counts == {
        "CONV_2D": 35,
        "DEPTHWISE_CONV_2D": 17,
        "ADD": 10,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }
    assert (seen.operators, seen.delegate_partitions) == (65, 1)
    assert (seen.images, seen.top1_agreement_percent) == (256, 100.0)
    assert 0 < seen.max_abs_diff < ROUNDING * 4  # these logits reach 3
    assert [edge.edge for edge in seen.edges] == [
        *("torch_onnx", "onnx_tensorflow", "tensorflow_tflite", "tflite_direct")
    ]
    for edge in seen.edges:
        assert (edge.images, edge.top1_agreement_percent) == (8, 100.0)
        assert edge.max_relative_diff < ROUNDING
        assert 90 < edge.snr_db <= 200


def test_every_kind_of_block_computes_the_same_without_padding_or_transposing(
    all_blocks, here: LocalDevice
) -> None:
    images_NHWC = np.random.default_rng(0).uniform(-1, 1, (16, 33, 33, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = all_blocks.module(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)).numpy()

    seen = here.run_model(all_blocks.model, images_NHWC)

    np.testing.assert_allclose(seen, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def test_the_directly_written_model_computes_the_same_as_tensorflows(all_blocks, here: LocalDevice) -> None:
    """Two ways that share no code: PyTorch -> ONNX -> TensorFlow, and weights straight into a file."""
    images_NHWC = np.random.default_rng(1).uniform(-1, 1, (4, 33, 33, 3)).astype(np.float32)

    written = network_model(all_blocks.net, folded_weights(all_blocks.module), output="logits")

    converted_NK = here.run_model(all_blocks.model, images_NHWC)
    written_NK = here.run_model(written, images_NHWC)
    np.testing.assert_allclose(written_NK, converted_NK, rtol=0, atol=ROUNDING * np.abs(converted_NK).max())


def test_seven_by_seven_kernels_in_parts_keep_their_h_swish_and_squeeze_excite(
    all_blocks, converter: TensorflowConverter, here: LocalDevice
) -> None:
    """By way of TensorFlow and directly: both write the same operators, and compute the same."""
    depthwise = [block for block in all_blocks.net.blocks if block.kind == "mbconv"]
    large = [index for index, block in enumerate(depthwise) if block.kernel == 7]
    assert any(depthwise[index].hswish and depthwise[index].squeeze_excite for index in large)
    images_NHWC = np.random.default_rng(2).uniform(-1, 1, (4, 33, 33, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = all_blocks.module(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)).numpy()

    converted = convert_module(all_blocks.module, converter, resolution=33, split=large)
    written = network_model(
        all_blocks.net,
        folded_weights(all_blocks.module),
        implementations={depthwise[index].key: "split" for index in large},
        output="logits",
    )

    structures = [inspect_model(model) for model in (converted, written)]
    assert structures[0].operator_counts == structures[1].operator_counts
    assert structures[0].operator_counts["DEPTHWISE_CONV_2D"] == len(depthwise) + 3 * len(large)
    assert [structure.delegate_partitions for structure in structures] == [1, 1]
    for model in (converted, written):
        seen = here.run_model(model, images_NHWC)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def test_a_weight_that_changes_after_the_export_is_caught_at_the_first_step_and_in_its_block(
    mobilenet, check: Check
) -> None:
    other = copy.deepcopy(mobilenet.module)
    with torch.no_grad():
        other.blocks[3].layers[0][0].weight[0, 0, 0, 0] += 0.05

    with pytest.raises(ConversionError) as caught:
        check(replace(mobilenet.steps, module=other))

    assert caught.value.exit_code == 6
    assert "network trial: the conversion breaks between PyTorch and ONNX. Largest" in caught.value.message
    block = mobilenet.net.blocks[3]
    assert f"The first block whose output differs is block 3 ({block.key}), by" in caught.value.message


def test_kernels_with_height_and_width_swapped_are_caught(mobilenet, check: Check) -> None:
    other = copy.deepcopy(mobilenet.module)
    with torch.no_grad():
        for part in other.modules():
            if isinstance(part, SameConv2d):
                part.weight.copy_(part.weight.transpose(2, 3).contiguous())

    with pytest.raises(ConversionError, match=r"The first block whose output differs is block 0 \(stem"):
        check(replace(mobilenet.steps, module=other))


def test_what_only_some_images_show_is_caught_on_all_of_them(
    mobilenet, validation_images: GreyImages, converter: TensorflowConverter, here: LocalDevice
) -> None:
    """The few images of the steps agree; of the many, one model has been shown others."""

    class Shifted:
        def __len__(self) -> int:
            return len(validation_images)

        def batch_NHWC(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
            self.asked = getattr(self, "asked", 0) + 1
            later = self.asked > 2  # the steps' images, PyTorch's, then the model's
            return validation_images.batch_NHWC((indices + later) % len(validation_images))

    with pytest.raises(ConversionError, match=r"TFLite model does not compute .* worst on validation image"):
        finish_network(mobilenet.steps, Shifted(), converter, here, LIMITS, name="trial")


def test_a_model_that_wants_nchw_is_caught(mobilenet, check: Check, converter: TensorflowConverter) -> None:
    """As if the export had been given NHWC images: the model takes (1, 32, 3, 32)."""

    class TakesNHWC(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(32, 10, 1)

        def forward(self, x_NHWC: torch.Tensor) -> torch.Tensor:
            return self.conv(x_NHWC).mean((2, 3))

    wrong = converter.convert(export_onnx(TakesNHWC(), (1, 32, 32, 3)), name="wrong")

    with pytest.raises(ConversionError, match=r"float32 \[1, 32, 3, 32\].*expected float32 \[1, 32, 32, 3\]"):
        check(replace(mobilenet.steps, tflite=wrong))


def test_padding_as_pytorch_does_it_is_caught_by_its_pad_operator(
    mobilenet, check: Check, converter: TensorflowConverter
) -> None:
    symmetric = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()
    model = convert_module(symmetric, converter, resolution=32)

    with pytest.raises(ConversionError, match="operators that only move data: 1 PAD"):
        check(replace(mobilenet.steps, tflite=model))


def test_a_weight_that_is_not_a_number_is_named(mobilenet, check: Check) -> None:
    broken = copy.deepcopy(mobilenet.module)
    with torch.no_grad():
        broken.blocks[-1].dense.bias[0] = float("nan")

    with pytest.raises(ConversionError, match=r"weight blocks\.\d+\.dense\.bias holds NaN or infinity"):
        check(replace(mobilenet.steps, module=broken))


def test_an_unsupported_layer_is_refused_before_tensorflow_is_asked() -> None:
    class NeverAsked:
        def convert(self, onnx_model: bytes, *, name: str) -> bytes:
            raise AssertionError("TensorFlow was asked")

    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2))

    with pytest.raises(ConversionError, match=r"network pooled: operator MaxPool .* cannot be converted"):
        convert_module(module, NeverAsked(), resolution=8, name="pooled")


def test_a_module_that_torch_cannot_trace_is_named() -> None:
    class DependsOnData(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(ConversionError, match="PyTorch cannot export DependsOnData") as caught:
        export_onnx(DependsOnData(), (1, 3, 4, 4))

    assert caught.value.raw


def test_export_says_nothing_and_leaves_the_module_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before = copy.deepcopy(module.state_dict())

    graph = simplify(read_graph(export_onnx(module, (1, 3, 4, 4))))

    assert [node.operator for node in graph.nodes] == ["Conv"]
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_tensorflow_is_never_imported_here(mobilenet) -> None:
    assert mobilenet.model[4:8] == b"TFL3"
    assert "tensorflow" not in sys.modules
