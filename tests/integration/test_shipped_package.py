"""``nasflow ship`` after a real run: what its package is to programs that are not ours."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.command_line import ProjectFolder
from support.mediapipe_classifier import classify
from support.small_classifiers import answers

from stages.data.config import DataConfig, open_dataset

IMAGES = 100


def test_every_file_answers_in_mediapipe_as_in_the_interpreter(
    project: ProjectFolder, tmp_path: Path
) -> None:
    """MediaPipe loads for some seconds."""
    done = project.ask("ship", "--version", "1.0.0", "--name", "clothes")
    assert (done.exit_code, done.document["written"]) == (0, True), done.document
    package = Path(done.document["folder"])
    models = sorted(package.glob("*.tflite"))
    assert models
    dataset = open_dataset(DataConfig())
    test = dataset.load("test")
    pixels_NHW = test.pixels_NHW[:IMAGES]
    images_NHWC = np.repeat(pixels_NHW[..., None], 3, axis=-1)
    for model, given in zip(models, classify(tmp_path, images_NHWC, models), strict=True):
        with zipfile.ZipFile(model) as inside:
            names = inside.read("labels.txt").decode().splitlines()
        assert names == list(dataset.class_names)
        raw = answers(model.read_bytes(), images_NHWC)
        probabilities = np.allclose(raw.sum(axis=1), 1, atol=0.05)
        for scores, answer in zip(raw, given, strict=True):
            by_name = dict(answer)
            expected = scores if probabilities else 1 / (1 + np.exp(-scores))
            np.testing.assert_allclose([by_name[name] for name in names], expected, atol=1e-3)
            assert expected[names.index(answer[0][0])] == pytest.approx(expected.max(), abs=1e-4)
            assert not probabilities or sum(by_name.values()) == pytest.approx(1, abs=0.02)


def test_a_package_can_be_checked_and_is_not_written_twice(project: ProjectFolder) -> None:
    first = project.ask("ship", "--version", "2.0.0", "--name", "clothes")
    assert first.exit_code == 0, first.document
    package = Path(first.document["folder"])
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"],
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count(": OK") == len(list(package.iterdir())) - 1
    again = project.ask("ship", "--version", "2.0.0", "--name", "clothes")
    assert (again.exit_code, again.document["written"]) == (0, False)
    made_from = json.loads((package / "provenance.json").read_bytes())
    assert made_from["data"]["dataset_sha256"] == open_dataset(DataConfig()).identity()["dataset_sha256"]
    shipped = json.loads((package / "result.json").read_bytes())
    figures = json.loads((project.latest / "result.json").read_bytes())
    assert shipped["verification"] == figures["verification"]
