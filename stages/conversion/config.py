"""What a converted network must keep, and the packages that convert."""

from __future__ import annotations

from pydantic import Field

from nasflow.base.version import package_version
from pipeline.artifact import Record
from stages.space.block_spec import ModelOutput

CONVERTERS = ("torch", "onnx", "onnxscript", "tensorflow-cpu", "tensorflow", "ai-edge-litert")


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
        True, description="refuse a model that the runtime cannot run in one piece at full speed (XNNPACK)"
    )
