"""What a `.tflite` file says of itself: TFLite metadata, as MediaPipe Tasks and ML Kit read them.

A flatbuffer with the identifier ``M001``. Numbers of fields and of values are those of
``metadata_schema.fbs`` (tensorflow/tflite-support, tensorflow_lite_support/metadata; MediaPipe has the same
file in mediapipe/tasks/metadata).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers

from stages.packaging.labels import LABELS
from stages.packaging.tflite_file import PIXEL_MEAN, PIXEL_STD, ModelFacts

CALIBRATION = "score_calibration.txt"
MIN_PARSER_VERSION = "1.0.0"
"""Of the schema: no later field is used."""

_AXIS_LABELS, _SCORE_CALIBRATION = 2, 4  # AssociatedFileType
_RGB, _GREY = 1, 2  # ColorSpaceType
_FEATURE, _IMAGE = 1, 2  # ContentProperties
_NORMALIZATION, _CALIBRATION = 1, 2  # ProcessUnitOptions
_INPUT_RANGES = {"float32": (-1.0, 1.0), "uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}


@dataclass(frozen=True)
class Description:
    """What people read: in the file, on the card, in Maven's repository."""

    name: str
    version: str
    text: str
    author: str
    licence: str


@dataclass(frozen=True)
class _Int8:
    value: int


@dataclass(frozen=True)
class _UInt32:
    value: int


_Table = Mapping[int, Any]
"""A table: its fields' values by their numbers. Text, numbers, tables, and lists of one of them."""


def model_metadata(facts: ModelFacts, description: Description) -> bytes:
    """The metadata of an image classifier whose label file is :data:`~stages.packaging.labels.LABELS`.

    Where the model leaves logits, a calibration turns each into 1 / (1 + exp(-logit)): scores between 0 and
    1 in the same order, which do not sum to 1. Its parameters are in :func:`calibration_file`.
    """
    height, width, channels = facts.input.shape[1:]
    low, high = _INPUT_RANGES[facts.input.type]
    content = {
        0: _Int8(_IMAGE),
        1: {0: _Int8(_RGB if channels == 3 else _GREY), 1: {0: _UInt32(width), 1: _UInt32(height)}},
    }
    taken: _Table = {
        0: "image",
        1: f"Image of {width}x{height} pixels, {channels} channel{'s' if channels > 1 else ''}, "
        f"{facts.input.type}. Pixels 0 to 255 stand for (pixel - {PIXEL_MEAN}) / {PIXEL_STD}.",
        3: content,
        4: [{0: _Int8(_NORMALIZATION), 1: {0: [PIXEL_MEAN], 1: [PIXEL_STD]}}],
        5: {0: [high], 1: [low]},
    }
    labels: _Table = {
        0: LABELS,
        1: "Names of the classes, in the order of the outputs.",
        2: _Int8(_AXIS_LABELS),
    }
    given: dict[int, Any] = {
        0: "probability" if facts.probabilities else "score",
        1: f"{'Probability' if facts.probabilities else 'Logit'} of each of {facts.classes} classes, "
        f"{facts.output.type}.",
        3: {0: _Int8(_FEATURE), 1: {}},
        6: [labels],
    }
    if facts.probabilities:
        given[5] = {0: [1.0], 1: [0.0]}
    else:
        given[4] = [{0: _Int8(_CALIBRATION), 1: {0: _Int8(0), 1: 0.0}}]  # of the logit itself
        parameters = {
            0: CALIBRATION,
            1: "Scale, slope and offset of each class.",
            2: _Int8(_SCORE_CALIBRATION),
        }
        given[6] = [labels, parameters]
    model: _Table = {
        0: description.name,
        1: description.text,
        2: description.version,
        3: [{2: [taken], 3: [given]}],
        4: description.author,
        5: description.licence,
        7: MIN_PARSER_VERSION,
    }
    builder = flatbuffers.Builder(4096)
    builder.Finish(_write(builder, model), file_identifier=b"M001")
    return bytes(builder.Output())


def calibration_file(classes: int) -> bytes:
    """Scale 1, slope 1, offset 0 for each class. No line feed at its end: MediaPipe reads one class more."""
    return b"\n".join([b"1,1,0"] * classes)


def _write(builder: Any, value: _Table | str | Sequence[Any]) -> int:
    """A table, text or list; returns its place. What it refers to is written before it."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if not isinstance(value, Mapping):
        return _write_list(builder, value)
    places = {
        field: _write(builder, inner)
        for field, inner in value.items()
        if isinstance(inner, str | list | Mapping)
    }
    builder.StartObject(max(value, default=-1) + 1)
    for field, inner in value.items():
        if field in places:
            builder.PrependUOffsetTRelativeSlot(field, places[field], 0)
        elif isinstance(inner, _Int8):
            builder.PrependInt8Slot(field, inner.value, 0)
        elif isinstance(inner, _UInt32):
            builder.PrependUint32Slot(field, inner.value, 0)
        else:
            builder.PrependFloat32Slot(field, inner, 0.0)
    return int(builder.EndObject())


def _write_list(builder: Any, values: Sequence[Any]) -> int:
    floats = isinstance(values[0], float)
    places = values if floats else [_write(builder, inner) for inner in values]
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependFloat32(place) if floats else builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())
