"""Which two models a gate compares: a file, a finished run's network, or MobileNetV2 by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults
from nasflow.base.text import plain_line
from pipeline.artifact import sha256_hex
from stages.conversion.inspection import ModelStructure, inspect_model
from stages.documents.gate import GateModel

MAX_BYTES = 2_000_000_000
MOBILENET = re.compile(r"mobilenet_v2(?::(?P<width>[0-9]+(?:\.[0-9]+)?))?")
_IN_A_RUN = ("network.tflite", "model.tflite")
_TFLITE = b"TFL3"
_ANCHOR_PIXELS, _ANCHOR_WIDTH = 96, 0.35


@dataclass(frozen=True)
class Subject:
    """A model and what it is; ``name`` is for people."""

    name: str
    content: bytes
    structure: ModelStructure

    @property
    def model(self) -> GateModel:
        """What a result says of it."""
        return GateModel(name=self.name, sha256=sha256_hex(self.content), size_bytes=len(self.content))

    @property
    def takes(self) -> str:
        """``float32 [1, 224, 224, 3]``."""
        return f"{self.structure.input_type} {list(self.structure.input_shape)}"


def candidate_of(path: Path) -> Subject:
    """The model to be judged: a file, or the folder of a finished run.

    Raises UsageError where it is no model, ConversionError where LiteRT cannot open it.
    """
    return _opened(path)


def baseline_of(text: str, candidate: Subject) -> Subject:
    """The model that it is compared with: a file, a run's folder, ``mobilenet_v2`` or ``mobilenet_v2:0.5``.

    MobileNetV2 (arXiv 1801.04381) is written for the candidate's input and number of classes, with random
    weights: how long it takes does not depend on them. Raises as :func:`candidate_of`.
    """
    named = MOBILENET.fullmatch(text)
    if named is None:
        return _opened(Path(text))
    width = float(named["width"] or 1)
    shape, classes = candidate.structure.input_shape, candidate.structure.output_shape[-1:]
    if len(shape) != 4 or shape[1] != shape[2] or not classes or not 0.1 <= width <= 4:
        raise UsageError(
            f"{text} cannot be made for {candidate.name}, which takes {candidate.takes} and answers "
            f"{list(candidate.structure.output_shape)}.",
            hint="It needs square images, classes, and a width multiplier of 0.1 to 4. Give another model as "
            "a file: --against BASELINE.tflite.",
        )
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    net = mobilenet_v2(resolution=shape[1], classes=classes[0], width=width, input_channels=shape[3])
    content = network_model(net)
    return Subject(f"MobileNetV2 {width:g}", content, inspect_model(content, name=text))


def anchor() -> Subject:
    """A small network that shows the device's speed around each block."""
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    content = network_model(mobilenet_v2(resolution=_ANCHOR_PIXELS, classes=10, width=_ANCHOR_WIDTH))
    return Subject("a small MobileNetV2", content, inspect_model(content, name="the anchor"))


def difference_of_inputs(candidate: Subject, baseline: Subject) -> str:
    """In what the two models' inputs differ, in a sentence; empty where they do not."""
    if candidate.takes == baseline.takes:
        return ""
    return (
        f"the models do different work: {candidate.name} takes {candidate.takes}, {baseline.name} "
        f"{baseline.takes}."
    )


def _opened(path: Path) -> Subject:
    file = path
    if path.is_dir():
        inside = [path / name for name in _IN_A_RUN if (path / name).is_file()]
        if not inside:
            raise UsageError(
                f"{plain_line(str(path))} is a folder without {' or '.join(_IN_A_RUN)}.",
                hint="Give a .tflite file, or a folder such as artifacts/latest.",
            )
        file = inside[0]
    if not file.is_file():
        raise UsageError(
            f"{plain_line(str(file))} does not exist.",
            hint="Give a .tflite file, the folder of a finished run such as artifacts/latest, or (to compare "
            "with) mobilenet_v2.",
        )
    with disk_faults(file, "read"):
        content = file.read_bytes() if file.stat().st_size <= MAX_BYTES else b""
    name = plain_line(str(file))
    if content[4:8] != _TFLITE:
        raise UsageError(f"{name} is not a .tflite model.", hint="Give files that TFLite can run.")
    return Subject(name, content, inspect_model(content, name=name))
