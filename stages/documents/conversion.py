"""Output of ``convert``: networks as files that can ship."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Blob, Document, Record
from stages.documents.origin import Origin, Precision, PretrainedFrom, Role
from stages.space.block_spec import ModelOutput
from stages.space.search_space import NetConfig


class ConversionCheck(Record):
    """The proof that a TFLite model computes what the PyTorch network computes."""

    images: int
    max_abs_diff: float
    top1_agreement_percent: float
    operators: int
    operator_counts: dict[str, int]
    delegate_partitions: int


class ModelFile(Record):
    """A network's `.tflite` file in one precision, and the proof that it computes the same.

    ``output`` is what the file answers; the check compares logits, whatever it is.
    """

    precision: Precision
    output: ModelOutput
    blob: Blob
    check: ConversionCheck


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

    def file(self, precision: Precision = "float32") -> ModelFile:
        """Its file in one precision. Raises KeyError where it was not converted to that."""
        return {file.precision: file for file in self.files}[precision]


class ConvertedNetworks(Document):
    """Output of ``convert``."""

    schema_version: int = 3
    networks: tuple[ConvertedNetwork, ...]
