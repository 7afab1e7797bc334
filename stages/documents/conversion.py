"""Output of ``convert``: networks as files that can ship."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.artifact import Blob, Document, Record
from stages.documents.origin import ElementType, Origin, Precision, PretrainedFrom, Role
from stages.space.block_spec import ModelOutput
from stages.space.search_space import NetConfig

Edge = Literal["torch_onnx", "onnx_tensorflow", "tensorflow_tflite", "tflite_direct"]
"""A step of a conversion, in their order; the last one is to the model that latencies are measured with."""
FileEdge = Literal["tflite_precision"]
"""The step from the float32 file to the file of another precision."""


class EdgeCheck(Record):
    """How the logits on both sides of a step differ, on a few real and extreme images."""

    edge: Edge | FileEdge
    images: int
    max_relative_diff: float = Field(description="as a share of the largest logit")
    top1_agreement_percent: float
    snr_db: float


LintCode = Literal[
    "several_pieces",
    "not_delegated",
    "moves_data",
    "changes_type",
    "activation_alone",
    "constant_alone",
    "other_type",
]
"""What is wrong with a graph: the delegate runs it in several pieces, or leaves an operator out; an operator
that only moves data; one that changes the type of numbers amid the graph; an activation or a constant that
the operator before it could have taken in; one that computes in another type than the precision says."""


class LintFinding(Record):
    """A rule that a graph breaks, and where: the operator and the tensor that it writes, where known."""

    code: LintCode
    operator: str
    tensor: str


class GraphLint(Record):
    """A graph's operators, the pieces in which a delegate runs them, and the rules that it breaks."""

    precision: str
    delegate: str
    operator_counts: dict[str, int]
    delegate_partitions: int
    findings: tuple[LintFinding, ...]


class ConversionCheck(Record):
    """The proof that a TFLite model computes what the PyTorch network computes.

    Of a file in another precision than float32: how its logits differ from those of the float32 file that it
    was made of.
    """

    images: int
    max_abs_diff: float
    max_relative_diff: float = Field(description="as a share of the largest logit")
    top1_agreement_percent: float
    snr_db: float = Field(description="signal-to-noise ratio of the logits; 200 where they are equal")
    edges: tuple[EdgeCheck, ...]
    operators: int
    operator_counts: dict[str, int]
    delegate_partitions: int
    findings: tuple[LintFinding, ...] = Field(
        default=(), description="rules that the graph breaks and may break by the configuration"
    )


class Quantization(Record):
    """How a file in another precision was made of the float32 file, and what it costs on validation images.

    Int8 is made of the trained network, and where that costs too much of a fine-tuned one as well: the better
    of both by these images is kept.
    """

    calibration_images: int = Field(ge=0, description="training images that ranges were read off; 0: none")
    images: int = Field(description="validation images on which both files were asked")
    accuracy_percent: float
    float32_accuracy_percent: float
    fine_tuned: bool = Field(description="whether its weights were fine-tuned in the steps of int8")
    other_accuracy_percent: float | None = Field(
        default=None, description="of the file that was not kept; None: there was no other"
    )
    weights: Blob | None = Field(default=None, description="the fine-tuned ones")
    tuned_check: ConversionCheck | None = Field(
        default=None, description="of the float32 file of the fine-tuned weights, which it was made of"
    )

    @property
    def points_lost(self) -> float:
        """Accuracy of the float32 file less its own, in percentage points."""
        return self.float32_accuracy_percent - self.accuracy_percent


class ModelFile(Record):
    """A network's `.tflite` file in one precision, and the proof that it computes the same.

    ``output`` is what the file answers, in float32. Logits are compared, those of float32 with PyTorch's,
    those of other precisions with the float32 file's.
    """

    precision: Precision
    input_type: ElementType = "float32"
    output: ModelOutput
    blob: Blob
    check: ConversionCheck
    quantization: Quantization | None = Field(default=None, description="None: the float32 file")


class LeftOut(Record):
    """A file that was asked for and not made."""

    precision: Precision
    reason: str


class ConvertedNetwork(Record):
    """A network as `.tflite` files that can ship."""

    name: str
    role: Role
    net: NetConfig
    origin: Origin
    pretrained: PretrainedFrom = None
    images_seen: int
    validation_accuracy_percent: float
    weights: Blob
    files: tuple[ModelFile, ...] = Field(min_length=1)
    left_out: tuple[LeftOut, ...] = Field(
        default=(), description="of ``convert.precisions``, those that were not made"
    )
    onnx: Blob | None = Field(
        default=None,
        description="the float32 network as the conversion exported it, answering as the files do: what "
        "ONNX Runtime measures; None: an earlier version",
    )

    def file(self, precision: Precision = "float32") -> ModelFile:
        """Its file in one precision. Raises KeyError where it was not converted to that."""
        return {file.precision: file for file in self.files}[precision]

    def weights_of(self, file: ModelFile) -> Blob:
        """The weights that one of its files holds: those that it was fine-tuned to, or its own."""
        tuned = None if file.quantization is None else file.quantization.weights
        return self.weights if tuned is None else tuned


class ConvertedNetworks(Document):
    """Output of ``convert``."""

    schema_version: int = 4
    networks: tuple[ConvertedNetwork, ...]
