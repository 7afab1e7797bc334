"""Class figures: every class that fits, every count, names in every script."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from support.sample_documents import sample_documents
from support.sample_variants import of_few_photos

from stages.documents import Verification
from stages.reporting.classes import ClassAccuracy, ClassResult, class_results
from stages.reporting.figures.classes import (
    MOST_ROWS,
    class_accuracy_figure,
    confusion_figure,
    drawn_classes,
    shortened,
)
from stages.reporting.figures.svg import text_width
from stages.reporting.run_documents import RunDocuments

RUNS = {
    "fashion": RunDocuments.of(sample_documents()),
    "photos": RunDocuments.of(of_few_photos(sample_documents())),
}
CLASSES = {name: class_results(run.verify) for name, run in RUNS.items()}


ADDED = (
    "balanced_accuracy_percent",
    "balanced_accuracy_interval_95",
    "correct_by_class",
    "confusion",
    "answers",
    "counts",
)
ADDED_BESIDE = ("only_correct", "only_found_correct", "balanced_points", "balanced_points_interval_95")


def parsed(drawing: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(drawing))


def drawings(name: str, width: float) -> list[Markup]:
    run, classes = RUNS[name], CLASSES[name]
    return [
        class_accuracy_figure(classes, run.reference.role, width=width),
        confusion_figure(run.found, classes, width=width),
        confusion_figure(run.reference, classes, width=width),
    ]


@pytest.mark.parametrize("width", [344.0, 466.0, 960.0])
@pytest.mark.parametrize("name", RUNS)
def test_a_drawing_is_whole_and_stays_in_its_frame(name: str, width: float) -> None:
    for drawing in drawings(name, width):
        root = parsed(drawing)
        _, _, wide, high = (float(part) for part in (root.get("viewBox") or "").split())
        assert wide == width
        assert not re.search(r'="[^"]*\b(nan|inf)\b', str(drawing))
        for node in root.iter():
            for attribute, limit in (
                ("x", wide),
                ("x1", wide),
                ("x2", wide),
                ("cx", wide),
                ("y", high),
                ("cy", high),
            ):
                if value := node.get(attribute):
                    assert -1 <= float(value) <= limit + 1, (node.tag, attribute, value)


@pytest.mark.parametrize("name", RUNS)
def test_slanted_names_end_within_the_drawing(name: str) -> None:
    for drawing in drawings(name, 466.0)[1:]:
        for node in parsed(drawing).iter():
            if (node.get("transform") or "").startswith("rotate(-55"):
                reach = 0.574 * text_width(node.text or "", 11.5)
                assert float(node.get("x") or 0) + reach <= 466 + 4


@pytest.mark.parametrize("name", RUNS)
def test_every_count_of_the_confusion_stands_in_its_cell(name: str) -> None:
    run = RUNS[name]
    for network in (run.found, run.reference):
        drawing = confusion_figure(network, CLASSES[name], width=466.0)
        root = parsed(drawing)
        cells = [e.text for e in root.iter() if "heattext" in (e.get("class") or "")]
        assert network.confusion is not None
        assert cells == [str(images) for _, _, images in network.confusion]


def test_a_class_without_test_images_is_left_out() -> None:
    empty = ClassResult(name="empty", images=0, found=None, reference=None)
    classes = (*CLASSES["photos"], empty)
    assert drawn_classes(classes) == list(range(6))
    assert "empty" not in str(class_accuracy_figure(classes, "full", width=466.0))


def test_of_many_classes_those_are_drawn_on_which_the_found_network_is_least_accurate() -> None:
    def one(index: int) -> ClassResult:
        accuracy = ClassAccuracy(
            correct=index, accuracy_percent=index / 10, accuracy_interval_95=(0, 100), confusions=()
        )
        return ClassResult(name=f"class {index}", images=1000, found=accuracy, reference=accuracy)

    classes = tuple(one(index) for index in reversed(range(1000)))
    drawn = drawn_classes(classes)
    assert len(drawn) == MOST_ROWS
    assert {classes[index].name for index in drawn} == {f"class {index}" for index in range(MOST_ROWS)}
    assert drawn == sorted(drawn)
    verify = RUNS["fashion"].verify
    found = verify.networks[0].model_copy(update={"confusion": ((999, 998, 3),)})
    for width in (344.0, 466.0):
        assert str(confusion_figure(found, classes, width=width)).count("<rect") == 2 * MOST_ROWS**2


@pytest.mark.parametrize(
    "name", ["short", "a very long name of a class that does not fit", "猫頭鷹" * 12, ""]
)
def test_a_name_is_cut_to_its_room(name: str) -> None:
    cut = shortened(name, 80)
    assert text_width(cut, 11.5) <= 80
    assert cut == name if text_width(name, 11.5) <= 80 else cut.endswith("…")


def test_confusions_are_listed_by_class_the_most_frequent_first() -> None:
    shirt = CLASSES["fashion"][6]
    assert shirt.name == "Shirt"
    assert shirt.found is not None
    assert [c.answered for c in shirt.found.confusions] == ["T-shirt/top", "Trouser"]
    assert sum(c.images for c in shirt.found.confusions) == shirt.images - shirt.found.correct


def test_an_earlier_version_has_no_classes() -> None:
    verify = RUNS["fashion"].verify
    old = verify.model_dump(mode="json")
    for field in ("images", "labels", "majority_percent", "equal_points"):
        del old[field]
    for network in old["networks"]:
        for field in ADDED:
            del network[field]
        if network["against_found"]:
            for field in ADDED_BESIDE:
                del network["against_found"][field]
    read = Verification.model_validate(old)
    assert class_results(read) == ()
