"""The benchmark of splits on a few drawn pictures: what is planted, what is taken out, what straddles."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import splits
from benchmarks._picture_copies import KINDS, Picture, copy_of, read_picture
from benchmarks.splits import class_indices, distinct_pictures, straddling_pairs
from stages.data.copies import Copies
from stages.data.descriptors import describe


def picture(seed: int) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 10, 4), np.uint8)
    pixels[..., 3] = 255
    return Picture(str(seed), str(seed), Image.fromarray(pixels).resize((200, 160)))


def test_there_are_four_single_changes_and_six_pairs() -> None:
    assert len(KINDS) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_copy_differs_from_its_picture_and_comes_again(kind: tuple[str, ...]) -> None:
    once, again = (copy_of(picture(1), kind, random.Random(3)) for _ in range(2))
    assert once.mode == "RGB"
    assert once.tobytes() == again.tobytes() != picture(1).image.convert("RGB").tobytes()
    assert ("resized" in kind) == (once.height < 0.9 * 160)


def test_one_of_each_set_of_true_copies_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviewed = tmp_path / "reviewed.json"
    reviewed.write_text(json.dumps([["a", "c"], ["a", "not installed"]]))
    monkeypatch.setattr(splits, "REVIEWED", reviewed)
    one, two, three = (describe(picture(seed).image) for seed in (1, 2, 3))
    blank = describe(Image.new("RGB", (9, 9), "white"))
    assert distinct_pictures(
        ["a", "b", "c", "d", "e"], ["1", "2", "3", "4", "5"], [one, two, three, two, blank]
    ) == [
        0,
        1,
    ]


def test_copies_that_were_not_found_straddle() -> None:
    pairs = [(number, number + 100) for number in range(100)]
    labels = [number % 2 for number in range(200)]
    found = Copies(200, (), tuple(pairs), (), searched_near=True)
    assert straddling_pairs(found, labels, pairs, seed=0) == 0
    assert straddling_pairs(Copies(200, (), (), (), searched_near=True), labels, pairs, seed=0) > 20


def test_classes_are_top_folders() -> None:
    assert class_indices(["openclipart/food/a.png", "stamps/x/y.png", "openclipart/food/x/b.png"]) == [
        0,
        1,
        0,
    ]


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    header = b"\x89PNG\r\n\x1a\n" + bytes([0, 0, 0, 13]) + b"IHDR" + bytes([0, 1, 0, 0, 0, 1, 0, 0])
    (tmp_path / "large.png").write_bytes(header)
    assert read_picture("large", tmp_path / "large.png") is None
