"""What a converted network must keep, and the packages that convert."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Record

CONVERTERS = ("torch", "onnx", "onnxscript", "tensorflow-cpu", "tensorflow", "ai-edge-litert")


def converter_versions() -> dict[str, str]:
    """The packages that convert, with their versions; none of them is loaded."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in CONVERTERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # of the two TensorFlow packages, one is installed
            continue
    return found


class ConvertConfig(Record):
    """What a converted network must keep."""

    images: int = Field(
        256, ge=1, le=100_000, description="validation images on which PyTorch and TFLite are compared"
    )
    max_relative_diff: float = Field(
        1e-3, gt=0, le=1, description="largest difference of a logit, as a share of the largest logit"
    )
    min_top1_agreement_percent: float = Field(
        99.9, ge=0, le=100, description="share of those images that both must put into the same class"
    )
    require_one_partition: bool = Field(
        True, description="refuse a model that XNNPACK does not take over as a whole"
    )
