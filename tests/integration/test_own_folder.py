"""A person's own folder, from its first look to cross-validation: the real command line and real files."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest
from integration.conftest import TINY
from PIL import Image
from support.command_line import Answer, ProjectFolder

from nasflow.publish import RESULT

CLASSES = ("blue", "green", "red")
EACH = 20


def picture(label: int, number: int) -> Image.Image:
    """Mostly of its class's colour, and like no other."""
    random = np.random.default_rng(100 * label + number)
    cells = random.integers(0, 120, (5, 6, 3), np.uint8)
    cells[..., 2 - label] += 100
    return Image.fromarray(cells).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """The tiny project with a folder of 60 images, one broken file and one copy; two folds."""
    folder = tmp_path_factory.mktemp("own images") / "project"
    shutil.copytree(TINY, folder)
    for label, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(EACH):
            picture(label, number).save(folder / "photos" / name / f"ünï {number}.png")
    shutil.copy(folder / "photos/red/ünï 1.png", folder / "photos/red/again.png")
    (folder / "photos/red/broken.jpg").write_bytes(b"")
    config = (folder / "pipeline.yaml").read_text()
    config = config.replace(
        "data: {path: images, train_images: 1500, architecture_images: 300}",
        "data: {source: folder, path: photos, folds: 2}",
    )
    config = config.replace("batch_size: 32}", "batch_size: 8, architecture_every: 2}")
    config = config.replace("training: {epochs: 2}", "training: {epochs: 2, batch_size: 8}")
    (folder / "pipeline.yaml").write_text(config)
    return ProjectFolder(folder)


@pytest.fixture(scope="module")
def answer(own: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    try:
        return own.ask("run")
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module")
def result(own: ProjectFolder, answer: Answer) -> dict[str, Any]:
    assert answer.exit_code == 0, answer.document
    document: dict[str, Any] = json.loads((own.latest / RESULT).read_bytes())
    return document


def test_a_run_says_first_what_it_leaves_out(answer: Answer) -> None:
    said = " ".join(str(event.get("text", "")) for event in answer.events)
    assert "broken.jpg" in said
    assert "copies" in said or "copy" in said


def test_a_run_shows_how_far_decoding_is(answer: Answer) -> None:
    notes = {event["note"]: (event["done"], event["total"]) for event in answer.events if "note" in event}
    assert notes["decoding"] == (62, 62)
    assert "Decoding 62 images into the cache" in " ".join(answer.texts)


def test_classes_and_parts_are_in_the_result(result: dict[str, Any]) -> None:
    images = result["images"]
    assert [one["name"] for one in images["classes"]] == list(CLASSES)
    assert images["files_found"] == 62
    assert images["broken_images"] == 1
    assert images["exact_copies"] == 1
    assert images["shared_choice"]
    assert images["fold"] == 0


def test_every_image_is_tested_once_over_all_folds(result: dict[str, Any]) -> None:
    together = result["cross_validation"]
    assert together["test_images"] == 60
    assert Counter(fold["test_images"] for fold in together["folds"]).total() == 2


def test_a_package_for_apps_names_no_image_and_no_folder(own: ProjectFolder, result: dict[str, Any]) -> None:
    assert result["images"]["broken"] == ["red/broken.jpg"]
    shipped = own.ask("ship", "--version", "1.0.0")
    assert shipped.exit_code == 0, shipped.document
    files = {path: path.read_bytes() for path in (own.artifacts / "shipped").rglob("*") if path.is_file()}
    names = ("broken.jpg", "again.png", "ünï", "photos", str(own.path))
    assert [path for path, content in files.items() if any(name.encode() in content for name in names)] == []
    card = (own.artifacts / "shipped" / "project-1.0.0" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "MediaPipe's ImageClassifier squeezes the whole image into a square" in card
    labels = (own.artifacts / "shipped" / "project-1.0.0" / "labels.txt").read_text(encoding="utf-8")
    assert labels.splitlines() == list(CLASSES)


def test_a_fold_that_was_stopped_is_seen_and_finished(own: ProjectFolder, answer: Answer) -> None:
    assert answer.exit_code == 0
    own.ask("clean", "--superseded")  # keeps what all folds have made
    status = own.ask("status").document
    assert (status["estimate_seconds"], status["folds"][0]["fold"]) == (0.0, 1)
    (verify,) = (stage for stage in status["folds"][0]["stages"] if stage["name"] == "verify")
    assert verify["fresh"]
    (own.artifacts / "records" / "verify" / f"{verify['fingerprint']}.json").unlink()
    said = own.call("status").stdout
    assert "fold 1: verify to run, about" in said
    assert "1 stage of 2 folds to run, about" in said
    planned = own.ask("run", "--dry-run").document
    assert [stage["name"] for stage in planned["folds"][0]["stages"] if not stage["fresh"]] == ["verify"]
    assert planned["estimate_seconds"] > 0
    again = own.ask("run")
    assert (again.ran, again.document["nothing_to_do"]) == ([], False)
    assert [event["stage"] for event in again.events if event["event"] == "stage_started"] == ["verify"]
    (first, second) = (event for event in again.events if event["event"] == "planned")
    assert dict(zip(first["stages"], first["seconds"], strict=True))["verify"] > 0
    assert second["stages"][-1] == "verify"
    assert own.ask("run").document["nothing_to_do"]


def test_the_folder_is_as_it_was(own: ProjectFolder, answer: Answer) -> None:
    names = sorted(path.name for path in (own.path / "photos").rglob("*") if path.is_file())
    assert len(names) == 62
    assert answer.exit_code == 0
