"""Each step of a conversion is held against the one before; the first that breaks is named, and its block."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import load_model_from_string, numpy_helper
from support.altered_models import with_scaled_kernel

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.converter import TensorflowConverter
from stages.conversion.differing_block import DifferingBlock, block_ends, first_differing_block
from stages.conversion.edge_images import edge_images, extreme_images
from stages.conversion.edges import Steps, check_edges, onnx_answers
from stages.conversion.flatbuffer import network_model
from stages.conversion.folding import folded_weights
from stages.conversion.model_file import unpacked
from stages.conversion.parity import Tolerance
from stages.data.grey import GreyImages

TOLERANCE = Tolerance(1e-4, 99.9, 60.0)
EXTREME_NHWC = extreme_images(33, 3)


def checked(steps: Steps, converter: object, here: LocalDevice) -> str:
    """What is said of a conversion that breaks."""
    with pytest.raises(ConversionError) as caught:
        check_edges(steps, EXTREME_NHWC, converter, here, TOLERANCE, name="trial")  # type: ignore[arg-type]
    assert caught.value.exit_code == 6
    return caught.value.message


def test_extreme_images_are_black_white_noise_a_checkerboard_and_saturated_colours() -> None:
    black, white, noise, checker, saturated = EXTREME_NHWC
    assert (np.unique(black), np.unique(white)) == (-1, 1)
    assert 0.5 < noise.std() < 0.65
    assert set(np.unique(checker)) == set(np.unique(saturated)) == {-1.0, 1.0}
    assert (checker[1:] == -checker[:-1]).all()
    assert (saturated[1:] == saturated[:-1]).mean() > 0.85
    assert len(np.unique(saturated[:9, :9].reshape(-1, 3), axis=0)) == 1
    assert np.abs(EXTREME_NHWC).max() == 1
    assert extreme_images(1, 1).shape == (5, 1, 1, 1)


def test_real_images_stand_before_the_extreme_ones(validation_images: GreyImages) -> None:
    found = edge_images(validation_images)
    last = len(validation_images) - 1
    assert found.shape == (8, 32, 32, 3)
    np.testing.assert_array_equal(found[[0, 2]], validation_images.batch_NHWC(np.array([0, last])))
    np.testing.assert_array_equal(found[3:], extreme_images(32, 3))


def test_every_kind_of_block_passes_every_step(
    all_blocks, converter: TensorflowConverter, here: LocalDevice
) -> None:
    for check in check_edges(all_blocks.steps, EXTREME_NHWC, converter, here, TOLERANCE, name="trial"):
        assert (check.images, check.top1_agreement_percent) == (5, 100.0)
        assert check.max_relative_diff < 5e-5
        assert check.snr_db > 90


def test_a_model_that_onnx_computes_otherwise_is_caught_there(
    all_blocks, converter: TensorflowConverter, here: LocalDevice
) -> None:
    proto = load_model_from_string(all_blocks.steps.onnx)
    bias = next(t for t in proto.graph.initializer if t.name.endswith("dense.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    broken = replace(all_blocks.steps, onnx=proto.SerializeToString())

    assert "breaks between PyTorch and ONNX" in checked(broken, converter, here)


def test_what_tensorflow_computes_otherwise_is_caught_there(all_blocks, here: LocalDevice) -> None:
    class Wrong:
        def answers(self, onnx_model: bytes, images_NHWC: NDArray[np.float32], **_: object) -> object:
            return onnx_answers(onnx_model, images_NHWC)[:, ::-1]

    said = checked(all_blocks.steps, Wrong(), here)

    assert "breaks between ONNX and TensorFlow" in said
    assert "No block by itself differs by more than is allowed." in said, "the converted model is right"


@pytest.mark.parametrize("number", [0, 7, -1])
def test_a_kernel_that_changes_on_the_way_to_tflite_is_caught_there_and_its_block_named(
    number: int, all_blocks, converter: TensorflowConverter, here: LocalDevice
) -> None:
    broken = replace(all_blocks.steps, tflite=with_scaled_kernel(all_blocks.steps.tflite, number))

    said = checked(broken, converter, here)

    assert "network trial: the conversion breaks between TensorFlow and TFLite. Largest" in said
    assert "on 5 real and extreme images" in said
    weights = folded_weights(all_blocks.module)
    kernels = [name for name, w in weights.items() if name.endswith(".weight") and w.ndim == 4]
    index = int(kernels[number].split(".")[1])
    assert (
        f"The first block whose output differs is block {index} ({all_blocks.net.blocks[index].key}), by"
        in said
    )


def test_a_measured_model_of_other_weights_is_caught_last(
    all_blocks, converter: TensorflowConverter, here: LocalDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways start from PyTorch's weights and share no code behind them."""

    def wrong(module: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
        weights = folded_weights(module)  # type: ignore[arg-type]
        return {**weights, "blocks.2.project.bias": weights["blocks.2.project.bias"] + np.float32(0.1)}

    monkeypatch.setattr("stages.conversion.edges.folded_weights", wrong)
    said = checked(all_blocks.steps, converter, here)
    assert "breaks between TFLite and the directly written model" in said
    assert "The first block whose output differs is block 2 (" in said


def test_blocks_are_found_in_a_converted_model_by_their_operators(all_blocks, here: LocalDevice) -> None:
    ends = block_ends(all_blocks.model, all_blocks.net, all_blocks.steps.implementations)
    assert ends is not None
    assert list(ends) == sorted(set(ends))
    assert len(ends) == len(all_blocks.net.blocks)
    graph = unpacked(all_blocks.model).subgraphs[0]
    for block, place in zip(all_blocks.net.blocks[:-1], ends, strict=False):
        (output,) = graph.operators[place].outputs
        side = block.out_resolution
        assert graph.tensors[output].shape.tolist() == [1, side, side, block.out_channels]
    assert ends[-1] == len(graph.operators) - 1


def test_a_model_of_other_operators_has_no_blocks_to_name(all_blocks, here: LocalDevice) -> None:
    net = all_blocks.net
    shorter = network_model(net.model_copy(update={"blocks": (*net.blocks[:-2], *net.blocks[-2:])}))
    assert block_ends(shorter, net, {}) is None, "it has a softmax more"
    assert first_differing_block(shorter, all_blocks.module, {}, EXTREME_NHWC, here, 1e-4) is None


def test_a_block_is_named_though_the_next_one_is_wrong_too(all_blocks, here: LocalDevice) -> None:
    other = copy.deepcopy(all_blocks.module)
    with torch.no_grad():
        for index in (4, 6):
            for part in other.blocks[index].modules():
                if isinstance(part, torch.nn.BatchNorm2d):
                    part.bias += 0.1
    found = first_differing_block(
        all_blocks.model, other, all_blocks.steps.implementations, EXTREME_NHWC, here, 1e-4
    )
    assert isinstance(found, DifferingBlock)
    assert (found.index, found.key) == (4, all_blocks.net.blocks[4].key)
    assert found.relative_diff > 1e-4
