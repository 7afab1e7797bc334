"""Copies of test images inside the report: which, how large, and where they are left out."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.finished_run import finish
from support.report_pages import STAGE_SECONDS, copies, few_photos, with_sure_answers
from support.sample_documents import sample_documents
from support.sample_variants import of_few_photos

from nasflow.config import PipelineConfig
from nasflow.publish import REPORT, shows_images
from stages.data.config import DataConfig
from stages.reporting.config import ReportConfig
from stages.reporting.figures.durations import durations_figure
from stages.reporting.html import render_report
from stages.reporting.run_result import build_result
from stages.verification.answers import Answers
from stages.verification.surest import MOST, surest


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_the_surest_answers_are_named_right_ones_one_of_a_class() -> None:
    labels_N = np.array([0, 0, 1, 1, 2, 2])
    answers = Answers(np.array([0, 0, 1, 0, 1, 2]), np.array([0.9, 0.95, 0.5, 0.8, 0.99, 1.0000001], "f4"), 0)
    right, wrong = surest(answers, labels_N)
    assert [one.image for one in right] == [5, 1, 2]
    assert right[0].probability == 1.0
    assert [(one.image, one.label, one.answer) for one in wrong] == [(4, 2, 1), (3, 1, 0)]


def test_of_equally_sure_answers_the_first_images_are_named_and_not_too_many() -> None:
    labels_N = np.arange(40)
    right, wrong = surest(Answers(labels_N, np.ones(40, "f4"), 0), labels_N)
    assert [one.image for one in right] == list(range(MOST))
    assert wrong == ()


def test_a_small_grey_image_is_copied_exactly() -> None:
    documents = with_sure_answers(sample_documents(), 10)
    shown = copies(documents, 32, 1)
    image = decoded(shown.right[3].uri)
    assert (image.size, image.mode, image.format) == ((32, 32), "L", "PNG")
    assert shown.right[3].words == "Test image 22 of class Dress, answered rightly, 96.9 % sure"


def test_a_photo_is_made_small() -> None:
    shown = copies(with_sure_answers(of_few_photos(sample_documents()), 6), 224, 3)
    image = decoded(shown.wrong[1].uri)
    assert (image.size, image.mode, image.format) == ((96, 96), "RGB", "JPEG")
    assert shown.wrong[1].words == "Test image 7 of class Cat, answered Rabbit, wild, 96.0 % sure"


def test_the_report_holds_the_copies_themselves_with_words_in_their_place() -> None:
    html = few_photos()
    tags = re.findall(r"<img [^>]*>", html)
    assert len(tags) == 18
    assert all('src="data:image/jpeg;base64,' in tag for tag in tags)
    assert all(re.search(r'alt="Test image \d+ of class [^"]+ sure"', tag) for tag in tags)
    assert "img-src data:" in html


def test_without_copies_a_report_may_not_even_show_images() -> None:
    documents = with_sure_answers(sample_documents(), 10)
    html = render_report(documents, build_result(documents))
    assert "img-src" not in html
    assert "<img" not in html


@pytest.mark.parametrize(
    ("asked", "own", "shown"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
def test_images_of_ones_own_are_shown_if_asked_for_alone(asked: bool | None, own: bool, shown: bool) -> None:
    assert ReportConfig(images=asked).shows_images(own=own) is shown


def test_a_folder_of_photos_and_a_local_data_set_are_ones_own(tmp_path: Path) -> None:
    config = PipelineConfig()
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "a.png")
    for data in (
        DataConfig(source="folder", path=str(tmp_path)),
        DataConfig(source="hub", name="x", path=str(tmp_path)),
    ):
        assert not shows_images(config, data)
    assert shows_images(config, DataConfig())


def test_a_finished_run_says_what_its_time_went_into(tmp_path: Path) -> None:
    project = finish(tmp_path / "p")
    html = (project / "artifacts/latest" / REPORT).read_text(encoding="utf-8")
    assert "What the time went into" in html
    result = build_result(sample_documents(), stage_seconds=STAGE_SECONDS)
    assert result.stage_seconds == STAGE_SECONDS


def test_bars_tell_durations_and_shares_in_words() -> None:
    drawn = durations_figure({"search": 90.0, "verify": 30.0}, width=344)
    assert "2 min 00 s of work in all: search 1 min 30 s, 75 %; verify 30 s, 25 %" in drawn
    assert drawn.count("<rect") == 2
