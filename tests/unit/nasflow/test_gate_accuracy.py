"""The accuracy of two models on a folder's test images: real files, real LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.report_pages import FACTS
from support.sample_documents import sample_documents
from support.small_classifiers import answers, small_classifier

from nasflow.base.errors import UsageError
from nasflow.gate.accuracy import accuracy_compared
from nasflow.gate.judge import Judge, Normalization
from nasflow.gate.subjects import Subject
from pipeline.artifact import document_bytes
from stages.conversion.inspector import ModelInspector
from stages.data.config import DataConfig
from stages.documents.gate import AccuracyCompared
from stages.packaging.embedding import with_metadata
from stages.packaging.labels import LABELS, label_file
from stages.packaging.metadata import Description, model_metadata
from stages.packaging.tflite_file import read_facts
from stages.reporting.run_result import build_result

CLASSES, SIDE = ("cat", "dog", "owl"), 32
CANDIDATE, BASELINE = (
    small_classifier(classes=3, seed=8),
    small_classifier(classes=3, input_type="uint8", seed=31),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """60 images of one colour each: (images, SIDE, SIDE, 3)."""
    random = np.random.default_rng(1)
    return random.integers(0, 256, (60, 1, 1, 3), np.uint8).repeat(SIDE, axis=1).repeat(SIDE, axis=2)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """Each test image lies in the folder of the class that the candidate answers."""
    truth = answers(CANDIDATE, pixels).argmax(axis=1)
    assert len(set(truth)) == 3
    for number, (image, label) in enumerate(zip(pixels, truth, strict=True)):
        for part in ("test", "train") if number % 2 == 0 else ("test",):
            place = tmp_path / "images" / part / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:02d}.png")
    return tmp_path / "images"


def named(model: bytes, names: tuple[str, ...] = CLASSES) -> bytes:
    facts = read_facts(model, name="m")
    text = Description("m", "1.0.0", "text", "author", "licence")
    return with_metadata(model, model_metadata(facts, text), {LABELS: label_file(names, len(names))})


def subject(content: bytes, path: Path | None = None, name: str = "m") -> Subject:
    with ModelInspector() as inspector:
        return Subject(name, content, inspector.inspect(content, depth="read"), path)


def compared(
    folder: Path, candidate: Subject, baseline: Subject, given: Normalization | None = None
) -> AccuracyCompared:
    data = DataConfig(source="folder", path=str(folder), fit="stretch", copies="ignore")
    return accuracy_compared(candidate, baseline, data, 5.0, lambda _event: None, lambda: None, given)


def test_each_model_is_asked_by_its_own_labels_type_and_normalization(
    folder: Path, pixels: np.ndarray
) -> None:
    shuffled = ("owl", "cat", "dog")  # the baseline has its outputs in another order
    found = compared(folder, subject(named(CANDIDATE)), subject(named(BASELINE, shuffled)))
    truth = [CLASSES[label] for label in answers(CANDIDATE, pixels).argmax(axis=1)]
    right = [shuffled[label] for label in answers(BASELINE, pixels).argmax(axis=1)]
    both = sum(a == b for a, b in zip(truth, right, strict=True))
    assert (found.images, found.classes, found.candidate_percent) == (60, 3, 100.0)
    assert (found.both_correct, found.only_candidate, found.only_baseline) == (both, 60 - both, 0)
    assert found.verdict == "pass"
    worse = compared(folder, subject(named(BASELINE, shuffled)), subject(named(CANDIDATE)))
    assert worse.drop_points == pytest.approx(100 * (60 - both) / 60)
    assert worse.data_sha256 == found.data_sha256


def test_labels_may_stand_in_a_file_beside_the_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / LABELS).write_text("Cat\nDOG\nowl\n", encoding="utf-8")
    plain = subject(CANDIDATE, tmp_path / "m.tflite")
    found = compared(folder, plain, plain, Normalization((127.5,), (127.5,)))
    assert (found.both_correct, found.drop_points) == (60, 0)


def test_a_float_model_that_does_not_say_how_it_takes_its_pixels_is_refused_unless_it_is_given(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / LABELS).write_text("\n".join(CLASSES), encoding="utf-8")
    known, plain = subject(named(CANDIDATE)), subject(CANDIDATE, tmp_path / "m.tflite")
    with pytest.raises(UsageError, match="does not say how it takes its pixels") as caught:
        compared(folder, known, plain)
    assert "--mean 0 --std 255" in caught.value.hint
    right = compared(folder, known, plain, Normalization((127.5,), (127.5,)))
    wrong = compared(folder, known, plain, Normalization((0.0, 0.0, 0.0), (1e-3, 255.0, 255.0)))
    assert (right.drop_points, wrong.drop_points < 0) == (0, True)
    with pytest.raises(UsageError, match="would do nothing"):
        compared(folder, known, known, Normalization((0.0,), (255.0,)))
    assert Judge.of(subject(named(BASELINE))).normalization is None, "it takes pixels as they are"


def test_a_model_of_a_run_takes_its_pixels_as_networks_of_nasflow_do(tmp_path: Path) -> None:
    documents = sample_documents()
    result = build_result(documents, FACTS)
    ours = result.network.model_copy(update={"model_sha256": subject(CANDIDATE).model.sha256})
    written = result.model_copy(update={"network": ours})
    (tmp_path / "result.json").write_bytes(document_bytes(written))
    (tmp_path / LABELS).write_text("\n".join(CLASSES), encoding="utf-8")
    judge = Judge.of(subject(CANDIDATE, tmp_path / "network.tflite"))
    assert judge.normalization == Normalization((127.5,), (127.5,))
    with pytest.raises(UsageError, match="does not say how it takes its pixels"):
        Judge.of(subject(small_classifier(classes=3, seed=5), tmp_path / "another.tflite"))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((1.0,), (0.0,)), ((1.0, 2.0), (1.0, 2.0)), ((1.0,), (1.0, 1.0, 1.0)), ((float("nan"),), (1.0,))],
)
def test_figures_that_are_no_normalization_are_refused(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(UsageError, match="are no normalization"):
        Normalization(mean, std)


def test_models_that_do_not_classify_these_images_are_refused(folder: Path, tmp_path: Path) -> None:
    known = subject(named(CANDIDATE))
    with pytest.raises(UsageError, match="does not say what its outputs stand for"):
        compared(folder, known, subject(CANDIDATE))
    with pytest.raises(UsageError, match="has not one label for each class of the images: owl"):
        compared(folder, known, subject(named(CANDIDATE, ("cat", "dog", "eagle"))))
    (tmp_path / LABELS).write_text("cat\ndog\n", encoding="utf-8")
    with pytest.raises(UsageError, match="has 3 outputs, and 2 labels"):
        compared(folder, known, subject(CANDIDATE, tmp_path / "m.tflite"))
    (tmp_path / LABELS).write_bytes(b"\xff")
    with pytest.raises(UsageError, match="is no label file"):
        compared(folder, known, subject(CANDIDATE, tmp_path / "m.tflite"))
    with pytest.raises(UsageError, match="cannot be found: it takes float32 1x32x32x1"):
        Judge.of(subject(small_classifier(classes=3, channels=1)))
