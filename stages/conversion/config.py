"""What a converted network must keep, and the packages that convert."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nasflow.base.version import package_version
from pipeline.artifact import Record
from stages.documents.origin import Precision
from stages.space.block_spec import ModelOutput

CONVERTERS = (
    "torch",
    "onnx",
    "onnxscript",
    "tensorflow-cpu",
    "tensorflow",
    "ai-edge-litert",
    "ai-edge-quantizer",
)


def converter_versions() -> dict[str, str]:
    """The packages that convert, with their versions; none of them is loaded."""
    found = {package: package_version(package) for package in CONVERTERS}
    # Of the two TensorFlow packages, one is installed.
    return {package: version for package, version in found.items() if version is not None}


class ConvertConfig(Record):
    """What a converted network must keep."""

    output: ModelOutput = Field(
        "probabilities",
        description="what every `.tflite` model answers, those that the latency model measures too: "
        "probabilities (a softmax is part of the graph, as apps' libraries expect) or logits",
    )
    precisions: tuple[Precision, ...] = Field(
        ("float32", "float16", "int8"),
        description="files of the found network that are made beside the one that is searched for "
        "(runtime.precision): float32; float16 (of the weights: half the size, what GPU delegates take); "
        "int8 (a quarter of the size, the fastest on most CPUs); dynamic_range (weights in int8 alone: "
        "slower than float32 for these networks). A network with h-swish gets no int8 file beside others: "
        "XNNPACK does not take it over (see require_one_partition)",
    )
    input_type: Literal["auto", "uint8", "float32"] = Field(
        "auto",
        description="what an int8 file takes: auto (uint8: pixels as an app has them), uint8, or float32; "
        "all files answer in float32",
    )
    calibration_images: int = Field(
        200,
        ge=2,
        le=100_000,
        description="training images, of all classes alike, on which int8 reads its ranges off",
    )
    max_int8_drop: float = Field(
        1.0,
        ge=0,
        le=100,
        description="percentage points of validation accuracy that int8 may cost; where it costs more, the "
        "network is fine-tuned in the steps of int8, and the better file is kept",
    )
    int8_epochs: int = Field(
        2, ge=0, le=1000, description="passes over the training images of that fine-tuning; 0: none"
    )
    min_float16_snr_db: float = Field(
        30.0,
        description="decibels by which a float16 file's logits must exceed their difference from float32's, "
        "on validation images and on a few extreme ones (black, white, noise, saturated)",
    )
    min_int8_snr_db: float = Field(
        5.0,
        description="the same of int8 and dynamic range; int8's logits of extreme images count up to those "
        "of validation images",
    )
    min_float16_top1_percent: float = Field(
        98.0,
        ge=0,
        le=100,
        description="share of images that a float16 file must classify as float32 does, or as what that "
        "holds for as likely",
    )
    min_int8_top1_percent: float = Field(75.0, ge=0, le=100, description="the same of int8 and dynamic range")
    images: int = Field(
        256, ge=1, le=100_000, description="validation images on which PyTorch and TFLite are compared"
    )
    max_relative_diff: float = Field(
        1e-4,
        gt=0,
        le=1,
        description="largest allowed difference of a logit, as a share of the largest logit",
    )
    min_top1_agreement_percent: float = Field(
        99.9, ge=0, le=100, description="share of those images that both must put into the same class"
    )
    min_snr_db: float = Field(
        60.0, ge=0, le=200, description="least signal-to-noise ratio of the logits, in decibels"
    )
    require_one_partition: bool = Field(
        True,
        description="refuse a model that the runtime cannot run in one piece at full speed: XNNPACK, or what "
        "runtime.delegate names",
    )
