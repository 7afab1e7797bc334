"""Which two models a gate compares: a file, a finished run's network, or MobileNetV2 by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from nasflow.model_files import read_model
from pipeline.artifact import sha256_hex
from stages.conversion.inspector import Depth, InspectedModel, ModelInspector
from stages.documents.gate import GateModel

MOBILENET = re.compile(r"mobilenet_v2(?::(?P<width>[0-9]+(?:\.[0-9]+)?))?")
_IN_A_RUN = ("network.tflite", "model.tflite")
_ANCHOR_PIXELS, _ANCHOR_WIDTH = 96, 0.35


@dataclass(frozen=True)
class Subject:
    """A model and what it is; ``name`` is for people, ``path`` its file, where it has one."""

    name: str
    content: bytes
    seen: InspectedModel
    path: Path | None = None

    @property
    def model(self) -> GateModel:
        """What a result says of it."""
        return GateModel(
            name=self.name, sha256=sha256_hex(self.content), size_bytes=len(self.content), takes=self.takes
        )

    @property
    def takes(self) -> str:
        """``float32 1x224x224x3``; several inputs one after the other."""
        return ", ".join(one.describe() for one in self.seen.inputs)


def candidate_of(path: Path, inspector: ModelInspector, depth: Depth) -> Subject:
    """The model to be judged: a file, or the folder of a finished run.

    ``depth``: how far it is tried before a device meets it. Raises UsageError where it is no model,
    ConversionError for a damaged one.
    """
    return _opened(path, inspector, depth)


def baseline_of(text: str, candidate: Subject, inspector: ModelInspector, depth: Depth) -> Subject:
    """The model that it is compared with: a file, a run's folder, ``mobilenet_v2`` or ``mobilenet_v2:0.5``.

    MobileNetV2 (arXiv 1801.04381) is written for the candidate's input and number of classes, with random
    weights: how long it takes does not depend on them. Raises as :func:`candidate_of`.
    """
    named = MOBILENET.fullmatch(text)
    if named is None:
        return _opened(Path(text), inspector, depth)
    width = float(named["width"] or 1)
    shapes = [one.shape for one in candidate.seen.inputs]
    answers = [one.shape for one in candidate.seen.outputs]
    if (
        [len(shape) for shape in (*shapes, *answers)] != [4, 2]
        or shapes[0][1] != shapes[0][2]
        or not 0.1 <= width <= 4
    ):
        raise UsageError(
            f"{text} cannot be made for {candidate.name}, which takes {candidate.takes} and answers "
            f"{', '.join(one.describe() for one in candidate.seen.outputs)}.",
            hint="It needs square images, classes, and a width multiplier of 0.1 to 4. Give another model as "
            "a file: --against BASELINE.tflite.",
        )
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    (_, side, _, channels), (_, classes) = shapes[0], answers[0]
    net = mobilenet_v2(resolution=side, classes=classes, width=width, input_channels=channels)
    content = network_model(net)
    return Subject(f"MobileNetV2 {width:g}", content, inspector.inspect(content, name=text, depth="read"))


def anchor(inspector: ModelInspector) -> Subject:
    """A small network that shows the device's speed around each block."""
    from stages.conversion.flatbuffer import network_model
    from stages.space.mobilenet_v2 import mobilenet_v2

    content = network_model(mobilenet_v2(resolution=_ANCHOR_PIXELS, classes=10, width=_ANCHOR_WIDTH))
    return Subject("a small MobileNetV2", content, inspector.inspect(content, depth="read"))


def remarks(candidate: Subject, baseline: Subject | None) -> list[str]:
    """What a reader of their ratio should know: other inputs, and weights that are no numbers."""
    said = []
    if baseline is not None and candidate.takes != baseline.takes:
        said.append(
            f"the models do different work: {candidate.name} takes {candidate.takes}, {baseline.name} "
            f"{baseline.takes}."
        )
    for subject in filter(None, (candidate, baseline)):
        if subject.seen.not_finite:
            layer = subject.seen.not_finite[0].layer or subject.seen.not_finite[0].tensor
            said.append(f"{subject.name} has weights that are NaN or infinite, the first of them in {layer}.")
    return said


def _opened(path: Path, inspector: ModelInspector, depth: Depth) -> Subject:
    file = path
    if path.is_dir():
        inside = [path / name for name in _IN_A_RUN if (path / name).is_file()]
        if not inside:
            raise UsageError(
                f"{plain_line(str(path))} is a folder without {' or '.join(_IN_A_RUN)}.",
                hint="Give a .tflite file, or a folder such as artifacts/latest.",
            )
        file = inside[0]
    content = read_model(file)
    name = plain_line(str(file))
    return Subject(name, content, inspector.inspect(content, name=name, depth=depth), file)
