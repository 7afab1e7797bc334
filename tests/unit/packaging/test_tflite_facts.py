"""What is read of a `.tflite` file before it is shipped, and which files are not."""

from __future__ import annotations

import math

import pytest
from support.small_classifiers import small_classifier

from nasflow.base.errors import ConversionError
from stages.conversion.flatbuffer import block_model, empty_model
from stages.packaging.tflite_file import read_facts
from stages.space.mobilenet_v2 import mobilenet_v2


def test_types_shapes_and_the_meaning_of_the_output_are_read() -> None:
    facts = read_facts(small_classifier(7, resolution=24), name="m")
    assert (facts.input.type, facts.input.shape, facts.output.type, facts.output.shape) == (
        "float32", (1, 24, 24, 3), "float32", (1, 7),
    )  # fmt: skip
    assert (facts.classes, facts.channels, facts.probabilities, facts.refused_by_apps()) == (7, 3, True, "")
    assert not read_facts(small_classifier(output="logits"), name="m").probabilities
    quantized = read_facts(small_classifier(input_type="uint8"), name="m")
    assert (quantized.input.type, quantized.input.zero_point) == ("uint8", 128)


def test_a_model_of_one_channel_is_none_for_mediapipe() -> None:
    facts = read_facts(small_classifier(channels=1), name="m")
    assert facts.refused_by_apps() == "its input has 1 channel, and not 3"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_named_by_its_layer(value: float) -> None:
    with pytest.raises(ConversionError, match=r"1 number of 'conv.weight' \(CONV_2D conv\) is NaN"):
        read_facts(small_classifier(spoiled=value), name="the float32 model")


@pytest.mark.parametrize(("scale", "zero_point"), [(1.0, 0), (1 / 255, 0), (1 / 127.5, 0), (math.nan, 128)])
def test_a_quantized_input_that_reads_pixels_otherwise_is_refused(scale: float, zero_point: int) -> None:
    with pytest.raises(ConversionError, match=r"reads the pixel|NaN or infinite"):
        read_facts(small_classifier(input_type="uint8", scale=scale, zero_point=zero_point), name="m")


@pytest.mark.parametrize("zero_point", [127, 128])
def test_the_nearest_whole_zero_points_are_taken(zero_point: int) -> None:
    model = small_classifier(input_type="uint8", zero_point=zero_point)
    assert read_facts(model, name="m").input.zero_point == zero_point


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"not a model at all",
        empty_model(),
        block_model(mobilenet_v2(width=0.35, resolution=32, classes=10).blocks[1]),
    ],
)
def test_what_is_no_image_classifier_is_refused(model: bytes) -> None:
    with pytest.raises(ConversionError, match="the int8 model is not an image classifier"):
        read_facts(model, name="the int8 model")
