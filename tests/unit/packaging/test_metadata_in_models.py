"""Metadata in `.tflite` files, read by what is not ours: zipfile, MediaPipe's schema, MediaPipe itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.mediapipe_classifier import classify
from support.small_classifiers import answers, small_classifier, with_buffers_outside

from nasflow.base.errors import ConversionError
from stages.conversion.flatbuffer import network_model
from stages.packaging.embedding import with_metadata
from stages.packaging.labels import LABELS, label_file
from stages.packaging.metadata import CALIBRATION, Description, calibration_file, model_metadata
from stages.packaging.tflite_file import read_facts
from stages.space.mobilenet_v2 import mobilenet_v2

DESCRIPTION = Description("fashion", "1.2.0", "An image classifier.", "Ada <ada@example.org>", "CC-BY-4.0")
NAMES = [f"class {index}" for index in range(9)] + ["名前"]
IMAGES = np.random.default_rng(5).integers(0, 256, (100, 32, 32, 3), np.uint8)


def ready(model: bytes) -> bytes:
    facts = read_facts(model, name="m")
    files = {LABELS: label_file(NAMES, 10)}
    if not facts.probabilities:
        files[CALIBRATION] = calibration_file(10)
    return with_metadata(model, model_metadata(facts, DESCRIPTION), files)


MODELS = {
    "float32": small_classifier(),
    "uint8": small_classifier(input_type="uint8", seed=1),
    "logits": small_classifier(output="logits", seed=2),
    "grey": small_classifier(channels=1),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """MediaPipe's answers: some seconds, for it loads OpenCV and matplotlib. Once for all tests here."""
    folder = tmp_path_factory.mktemp("models")
    paths = []
    for name, model in MODELS.items():
        paths.append(folder / f"{name}.tflite")
        paths[-1].write_bytes(ready(model))
    return dict(zip(MODELS, classify(folder, IMAGES, paths), strict=True))


@pytest.mark.parametrize("name", ["float32", "uint8"])
def test_mediapipe_gives_the_interpreters_answers_by_their_names(name: str, said: dict[str, Any]) -> None:
    expected = answers(MODELS[name], IMAGES)
    for scores, given in zip(expected, said[name], strict=True):
        assert given[0][0] == NAMES[int(scores.argmax())]
        by_name = dict(given)
        np.testing.assert_allclose([by_name[label] for label in NAMES], scores, atol=1e-5)
        assert sum(by_name.values()) == pytest.approx(1, abs=1e-4)


def test_mediapipe_makes_scores_of_logits_in_their_order(said: dict[str, Any]) -> None:
    expected = answers(MODELS["logits"], IMAGES)
    for logits, given in zip(expected, said["logits"], strict=True):
        assert given[0][0] == NAMES[int(logits.argmax())]
        by_name = dict(given)
        np.testing.assert_allclose([by_name[label] for label in NAMES], 1 / (1 + np.exp(-logits)), atol=1e-4)


def test_mediapipe_refuses_what_is_said_to_be_refused(said: dict[str, Any]) -> None:
    assert "RGB color space" in said["grey"]
    assert read_facts(MODELS["grey"], name="m").refused_by_apps()


def test_mediapipes_schema_reads_all_that_was_written() -> None:
    # In a process of its own: importing the package warns, and warnings are errors here.
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]);"
        "import metadata_schema_py_generated as s;"
        "m = s.ModelMetadataT.InitFromObj(s.ModelMetadata.GetRootAs(sys.stdin.buffer.read(), 0));"
        "plain = lambda v: v.decode() if isinstance(v, bytes) else v.tolist() if hasattr(v, 'tolist') else v;"
        "print(json.dumps(m, default=lambda v: {k: plain(i) for k, i in vars(v).items()"
        " if i is not None} if hasattr(v, '__dict__') else plain(v)))"
    )
    metadata = model_metadata(read_facts(MODELS["logits"], name="m"), DESCRIPTION)
    assert metadata[4:8] == b"M001"
    schema_folder = _package_folder("mediapipe") / "tasks" / "metadata"
    done = subprocess.run(
        [sys.executable, "-c", script, str(schema_folder)], input=metadata, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    read = json.loads(done.stdout)
    assert {key: read[key] for key in ("name", "version", "description", "author", "license")} == {
        "name": "fashion",
        "version": "1.2.0",
        "description": "An image classifier.",
        "author": "Ada <ada@example.org>",
        "license": "CC-BY-4.0",
    }
    assert read["minParserVersion"] == "1.0.0"
    (graph,) = read["subgraphMetadata"]
    (taken,), (given,) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]
    assert taken["content"]["contentProperties"] == {
        "colorSpace": 1,
        "defaultSize": {"width": 32, "height": 32},
    }
    (normalization,) = taken["processUnits"]
    assert normalization == {"optionsType": 1, "options": {"mean": [127.5], "std": [127.5]}}
    assert taken["stats"] == {"max": [1.0], "min": [-1.0]}
    assert [(f["name"], f["type"]) for f in given["associatedFiles"]] == [(LABELS, 2), (CALIBRATION, 4)]
    assert given["processUnits"][0]["optionsType"] == 2


def _package_folder(name: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.mark.parametrize("name", MODELS)
def test_zipfile_reads_the_labels_inside_the_model(name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(ready(MODELS[name]))) as archive:
        assert archive.testzip() is None
        assert archive.read(LABELS).decode().splitlines() == NAMES
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(
    "model", [*MODELS.values(), network_model(mobilenet_v2(width=0.35, resolution=32, classes=10))]
)
def test_the_model_within_stays_what_it_was(model: bytes) -> None:
    before, after = (
        schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)) for content in (model, _bare(model))
    )
    assert [b.data is not None and bytes(b.data) for b in after.buffers[:-1]] == [
        b.data is not None and bytes(b.data) for b in before.buffers
    ]
    assert [m.name for m in after.metadata] == [*(m.name for m in before.metadata or ()), b"TFLITE_METADATA"]
    for field in ("version", "description"):
        assert getattr(after, field) == getattr(before, field)
    assert _plain(after.subgraphs) == _plain(before.subgraphs)
    assert _plain(after.operatorCodes) == _plain(before.operatorCodes)


def _bare(model: bytes) -> bytes:
    return with_metadata(model, b"M" * 33, {"a.txt": b"a"})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return {key: _plain(inner) for key, inner in vars(value).items()} if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("name", ["float32", "uint8", "logits"])
def test_the_interpreter_gives_the_very_same_numbers(name: str) -> None:
    images = IMAGES[:8]
    assert (answers(ready(MODELS[name]), images) == answers(MODELS[name], images)).all()


@pytest.mark.parametrize("length", [1, 15, 16, 17, 1000])
def test_every_buffer_stays_aligned_to_16_bytes(length: int) -> None:
    content = with_metadata(MODELS["float32"], b"m" * length, {LABELS: b"a\n"})
    root = schema.Model.GetRootAs(content)
    places = [
        root.Buffers(index)._tab.Vector(root.Buffers(index)._tab.Offset(4))
        for index in range(root.BuffersLength())
        if root.Buffers(index).DataLength()
    ]
    assert len(places) == 6  # five constants, and the metadata
    assert all(place % 16 == 0 for place in places)
    assert content[places[-1] : places[-1] + length] == b"m" * length


def test_weights_behind_the_flatbuffer_are_brought_into_it() -> None:
    model = MODELS["float32"]
    outside = with_buffers_outside(model)
    assert (answers(outside, IMAGES[:4]) == answers(model, IMAGES[:4])).all(), "LiteRT reads them there"
    after = with_metadata(outside, b"M" * 33, {LABELS: b"a\n"})
    root = schema.Model.GetRootAs(after)
    buffers = [root.Buffers(index) for index in range(root.BuffersLength())]
    assert [buffer.Offset() for buffer in buffers] == [0] * len(buffers)
    before = schema.Model.GetRootAs(model)
    assert [buffer.DataAsNumpy().tobytes() for buffer in buffers if buffer.DataLength()] == [
        *(
            before.Buffers(index).DataAsNumpy().tobytes()
            for index in range(before.BuffersLength())
            if before.Buffers(index).DataLength()
        ),
        b"M" * 33,
    ]
    places = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert all(place % 16 == 0 for place in places)
    assert len(after) < len(outside) + 1000
    assert (answers(after, IMAGES[:4]) == answers(model, IMAGES[:4])).all()


def test_weights_that_are_cut_off_are_told() -> None:
    with pytest.raises(ConversionError, match="its weights are cut off"):
        with_metadata(with_buffers_outside(MODELS["float32"])[:-64], b"M", {})


def test_metadata_are_put_in_once() -> None:
    with pytest.raises(ConversionError, match="it has metadata already"):
        ready(ready(MODELS["float32"]))


def test_equal_models_give_equal_bytes() -> None:
    assert ready(MODELS["uint8"]) == ready(MODELS["uint8"])
