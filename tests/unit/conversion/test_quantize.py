"""A float32 model in the other precisions: what it is made of, what it answers, how ranges are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from conftest import Converted

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError, UsageError
from stages.conversion import calibrate
from stages.conversion.block_weights import random_weights
from stages.conversion.calibrate import calibrated_ranges, calibration_indices
from stages.conversion.calibration_worker import widest
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.inspection import inspect_model
from stages.conversion.lint import GraphPrecision, lint_graph
from stages.conversion.quantize import (
    ElementType,
    Ranges,
    assumed_ranges,
    computed_tensors,
    dynamic_range_model,
    in_precision,
    input_name,
    int8_model,
)
from stages.data.grey import GreyImages
from stages.data.model_input import model_input
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.search_space import SearchSpace

IMAGES = 100


@pytest.fixture(scope="module")
def ranges(mobilenet: Converted, validation_images: GreyImages) -> Ranges:
    indices = calibration_indices(validation_images.labels, 64, [str(c) for c in range(10)], seed=0)
    return calibrated_ranges(mobilenet.model, validation_images, indices, name="mobilenet")


def tensors(model: bytes) -> dict[str, Any]:
    graph = schema.ModelT.InitFromPackedBuf(model).subgraphs[0]
    return {tensor.name.decode(): tensor for tensor in graph.tensors}


def snr_db(reference: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    noise = float(((reference - other) ** 2).sum())
    return 10 * float(np.log10((reference**2).sum() / noise))


def answers(model: bytes, images: GreyImages, here: LocalDevice, element_type: str) -> np.ndarray[Any, Any]:
    return here.run_model(model, model_input(images.batch_NHWC(slice(0, IMAGES)), element_type))


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_int8_answers_what_float32_does_but_for_its_steps(
    mobilenet: Converted, validation_images: GreyImages, here: LocalDevice, ranges: Ranges, io: ElementType
) -> None:
    quantized = int8_model(mobilenet.model, ranges, io=io)
    structure = inspect_model(quantized)
    assert (structure.input_type, structure.output_type) == (io, "float32")
    assert structure.delegate_partitions == 1
    reference = answers(mobilenet.model, validation_images, here, "float32")
    seen = answers(quantized, validation_images, here, io)
    assert snr_db(reference, seen) > 8  # weights that no training has made mild
    assert len(quantized) < 0.4 * len(mobilenet.model)


def test_float16_halves_the_file_and_keeps_the_answers(
    mobilenet: Converted, validation_images: GreyImages, here: LocalDevice
) -> None:
    half = in_precision(mobilenet.model, "float16")
    reference = answers(mobilenet.model, validation_images, here, "float32")
    assert snr_db(reference, answers(half, validation_images, here, "float32")) > 35
    structure = inspect_model(half)
    assert (structure.input_type, structure.delegate_partitions) == ("float32", 1)
    assert structure.undelegated == ()
    assert len(half) < 0.6 * len(mobilenet.model)


def test_a_dynamic_range_model_falls_apart_at_its_depthwise_convolutions(mobilenet: Converted) -> None:
    structure = inspect_model(dynamic_range_model(mobilenet.model))
    assert structure.delegate_partitions > 1
    assert set(structure.undelegated) == {"DEPTHWISE_CONV_2D"}


def test_kernels_have_a_scale_for_each_output_channel(mobilenet: Converted, ranges: Ranges) -> None:
    model = int8_model(mobilenet.model, ranges)
    of_kernels = [
        (tensor.shape[tensor.quantization.quantizedDimension], len(tensor.quantization.scale))
        for name, tensor in tensors(model).items()
        if tensor.type == schema.TensorType.INT8 and name not in computed_tensors(mobilenet.model)
    ]
    assert len(of_kernels) > 50
    assert all(channels == scales for channels, scales in of_kernels)


def test_the_input_stands_for_all_pixels_whatever_calibration_saw(
    mobilenet: Converted, ranges: Ranges
) -> None:
    dark = {**ranges, input_name(mobilenet.model): (-1.0, -0.5)}
    source = tensors(int8_model(mobilenet.model, dark))[input_name(mobilenet.model)]
    assert source.quantization.scale[0] == pytest.approx(1 / 127.5)
    assert source.quantization.zeroPoint[0] in (127, 128, -1, 0)


def test_calibration_finds_the_very_extremes_of_all_images(
    mobilenet: Converted, validation_images: GreyImages, here: LocalDevice, ranges: Ranges
) -> None:
    indices = calibration_indices(validation_images.labels, 64, [str(c) for c in range(10)], seed=0)
    logits = here.run_model(mobilenet.model, validation_images.batch_NHWC(indices))
    graph = schema.ModelT.InitFromPackedBuf(mobilenet.model).subgraphs[0]
    output = graph.tensors[graph.outputs[0]].name.decode()
    assert ranges[output] == pytest.approx((float(logits.min()), float(logits.max())), abs=1e-4)
    assert ranges.keys() >= computed_tensors(mobilenet.model).keys()


def test_two_images_have_the_range_of_both() -> None:
    def of(low: float, high: float) -> dict[str, Any]:
        return {"min": np.array([low]), "max": np.array([high])}

    both = widest(of(-1, 2), of(-3, 1))
    assert (both["min"].tolist(), both["max"].tolist()) == ([-3], [2])


def test_every_class_is_calibrated_on_alike() -> None:
    labels = np.array([0] * 90 + [1] * 7 + [2] * 3)
    indices = calibration_indices(labels, 12, ["a", "b", "c"], seed=1)
    assert np.bincount(labels[indices]).tolist() == [5, 4, 3]
    assert indices.tolist() == calibration_indices(labels, 12, ["a", "b", "c"], seed=1).tolist()
    assert indices.tolist() != calibration_indices(labels, 12, ["a", "b", "c"], seed=2).tolist()


def test_images_of_one_class_alone_are_refused() -> None:
    with pytest.raises(UsageError, match=r"all of one class \(cat\); the network has 2") as raised:
        calibration_indices(np.array([1, 1, 1]), 10, ["dog", "cat"], seed=0)
    assert raised.value.exit_code == 2
    assert "convert.precisions" in raised.value.hint


def test_a_range_that_is_missing_is_named(mobilenet: Converted, ranges: Ranges) -> None:
    lost = sorted(computed_tensors(mobilenet.model))[0]
    with pytest.raises(ConversionError, match="no range of values is known for 1 tensors") as raised:
        int8_model(mobilenet.model, {name: r for name, r in ranges.items() if name != lost})
    assert lost in raised.value.message


def test_a_calibration_that_dies_is_an_error_with_its_last_words(
    validation_images: GreyImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConversionError, match="network broken cannot be calibrated") as raised:
        calibrated_ranges(b"no model", validation_images, np.arange(2), name="broken")
    assert raised.value.raw
    monkeypatch.setattr(calibrate, "WORKER", "stages.conversion.no_such_worker")
    with pytest.raises(ConversionError, match="ended with exit code 1"):
        calibrated_ranges(b"no model", validation_images, np.arange(2), name="broken")


def small(space: SearchSpace) -> SearchSpace:
    """At half the resolution or less: what an operator is does not depend on it."""
    return space.model_copy(update={"resolution": min(space.resolution, 64)})


@pytest.mark.parametrize("name", shipped_spaces())
def test_random_networks_of_every_space_are_made_of_the_same_operators_in_int8(name: str) -> None:
    space = small(load_space(SpaceConfig(name=name)))
    generator = np.random.default_rng(5)
    for _ in range(2):
        net = space.network([int(generator.integers(len(layer.blocks))) for layer in space.layers()])
        model = network_model(net, random_weights(net.blocks))
        counts = dict(inspect_model(model).operator_counts)
        precisions: tuple[GraphPrecision, ...] = ("float16", "int8")
        for precision in precisions:
            structure = inspect_model(in_precision(model, precision))
            assert {o: n for o, n in structure.operator_counts.items() if "QUANTIZE" not in o} == counts
            found = lint_graph(in_precision(model, precision), structure, precision=precision).findings
            if not any(block.hswish for block in net.blocks) or precision == "float16":
                assert found == ()
            else:
                assert {finding.code for finding in found} == {"several_pieces", "not_delegated"}


def test_all_weights_lie_inside_the_flatbuffer(mobilenet: Converted) -> None:
    """Where the library puts those of large models, older runtimes do not look."""
    for precision in ("float16", "int8", "dynamic_range"):
        model = in_precision(mobilenet.model, precision)  # type: ignore[arg-type]
        content = schema.ModelT.InitFromPackedBuf(model)
        assert {buffer.offset for buffer in content.buffers} == {0}
        held = sum(len(buffer.data) for buffer in content.buffers if buffer.data is not None)
        assert held > 0.2 * len(mobilenet.model)


def test_a_block_alone_computes_in_int8_from_end_to_end() -> None:
    block = next(b for b in load_space(SpaceConfig(name="fashion")).distinct_blocks() if b.kind == "mbconv")
    model = block_model(block)
    structure = inspect_model(int8_model(model, assumed_ranges(model), io="int8"))
    assert (structure.input_type, structure.output_type) == ("int8", "int8")
    assert structure.operator_counts == inspect_model(model).operator_counts
