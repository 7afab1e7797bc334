"""The whole pipeline in int8: what is measured, searched, verified and shipped is the int8 file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import ProjectFolder
from support.mediapipe_classifier import classify
from support.small_classifiers import answers

from nasflow.publish import MANIFEST, RESULT
from stages.conversion.inspection import inspect_model
from stages.data.config import DataConfig, open_dataset

IN_INT8 = ("--set", "runtime.precision=int8")
# What share of MobileNetV2 a network takes in int8 differs between CPUs: a target that all of them meet.
ANY_TARGET = ("--set", "search.target.ratio=9")
IMAGES = 40
# The tiny space with h-swish, which XNNPACK does not take over in int8.
HSWISH = """
name: hswish
resolution: 32
classes: 10
stem: {width: 8, kernel: 3, stride: 2}
stages:
  - {width: 8, layers: 3, stride: 2}
head_width: 32
candidates:
  - {kernel: 3, expansion: 2, activation: hswish}
  - {kernel: 3, expansion: 2}
"""


def test_a_run_in_int8_compares_and_ships_int8_files(project: ProjectFolder, tmp_path: Path) -> None:
    """Half a minute and more: all but the training of MobileNetV2 is made again. MediaPipe loads, too."""
    run = project.ask("run", *IN_INT8, *ANY_TARGET)
    assert run.exit_code == 0, run.document
    assert {"profile", "latency", "search", "convert", "verify"} <= set(run.ran)
    result: dict[str, Any] = json.loads((project.latest / RESULT).read_bytes())
    assert result["device"]["precision"] == "int8"
    assert result["latency_model"]["held_out"]["networks"] > 0
    by_name = {network["name"]: network for network in result["verification"]["networks"]}
    assert by_name[result["verification"]["reference"]]["role"] == "baseline"
    convert = stored(project, json.loads((project.latest / MANIFEST).read_bytes())["documents"]["convert"])
    made = {entry["name"]: [file["precision"] for file in entry["files"]] for entry in convert["networks"]}
    assert made["found"] == ["float32", "float16", "int8"]
    baselines = [name for name, network in by_name.items() if network["role"] == "baseline"]
    assert baselines
    assert all(made[name] == ["float32", "int8"] for name in baselines)
    types = {path.name: inspect_model(path.read_bytes()) for path in project.latest.glob("*.tflite")}
    assert {name: structure.input_type for name, structure in types.items()} == {
        "network.tflite": "uint8",
        "network_float32.tflite": "float32",
        "network_float16.tflite": "float32",
    }
    assert types["network.tflite"].delegate_partitions == 1

    done = project.ask("ship", "--version", "1.0.0", "--name", "clothes")
    assert (done.exit_code, done.document["written"]) == (0, True), done.document
    package = Path(done.document["folder"])
    made_from = json.loads((package / "provenance.json").read_bytes())
    assert [file["precision"] for file in made_from["files"] if file["verified"]] == ["int8"]
    model = package / "model.tflite"
    with zipfile.ZipFile(model) as inside:
        names = inside.read("labels.txt").decode().splitlines()
    pixels_NHW = open_dataset(DataConfig()).load("test").pixels_NHW[:IMAGES]
    images_NHWC = np.repeat(pixels_NHW[..., None], 3, axis=-1)
    (given,) = classify(tmp_path, images_NHWC, [model])
    for scores, answer in zip(answers(model.read_bytes(), images_NHWC), given, strict=True):
        by_label = dict(answer)
        np.testing.assert_allclose([by_label[name] for name in names], scores, atol=1e-3)
        assert sum(by_label.values()) == pytest.approx(1, abs=0.02)


def test_h_swish_in_int8_is_refused_before_anything_is_measured_or_priced_as_it_runs(
    project: ProjectFolder,
) -> None:
    (project.path / "hswish.yaml").write_text(HSWISH, encoding="utf-8")
    asked = (*IN_INT8, "--set", "space.name=hswish.yaml")
    refused = project.ask("run", *asked)
    assert (refused.exit_code, refused.document["error"]["type"]) == (2, "UsageError")
    assert "does not take over h-swish in int8" in refused.document["error"]["message"]
    assert not [event for event in refused.events if event["event"] == "stage_started"]

    pieces = ("--set", "convert.require_one_partition=false")
    priced = project.ask("run", *asked, *pieces, "--until", "profile")
    assert priced.exit_code == 0, priced.document
    records = (project.artifacts / "records" / "profile").glob("*.json")
    newest = json.loads(max(records, key=lambda path: path.stat().st_mtime_ns).read_bytes())
    table = stored(project, newest["record"]["output"]["sha256"])
    assert table["precision"] == "int8"
    assert any(row["block"].get("activation") == "hswish" for row in table["rows"])


def stored(project: ProjectFolder, digest: str) -> dict[str, Any]:
    (path,) = (project.artifacts / "objects").rglob(f"{digest}*")
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document
