"""Balanced accuracy and confusions against known truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.verification.classes import (
    balanced_accuracy,
    balanced_difference,
    by_class,
    confusion,
    majority_share,
)
from stages.verification.statistics import paired_difference, wilson_interval

CASES = {
    "few images": ([12] * 10, np.linspace(0.5, 0.98, 10)),
    "one image a class": ([1] * 100, np.linspace(0.7, 1.0, 100)),
    "many small classes": ([5] * 100, np.linspace(0.7, 1.0, 100)),
    "unequal": ([60, 40, 20, 10, 8, 6, 5, 4, 3], [0.95, 0.9, 0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5]),
    "a small class unlike the others": ([200, 6], [0.98, 0.3]),
    "many images": ([1000] * 10, np.linspace(0.7, 0.99, 10)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_interval_of_a_balanced_accuracy_holds_the_truth_in_about_95_percent(name: str) -> None:
    random = np.random.default_rng(1)
    images, accuracies = np.array(CASES[name][0]), np.array(CASES[name][1])
    trials = 800
    held = sum(
        balanced_accuracy(random.binomial(images, accuracies), images).holds(accuracies.mean())
        for _ in range(trials)
    )
    assert held / trials > 0.915


@pytest.mark.parametrize("name", CASES)
def test_the_interval_of_a_balanced_difference_holds_the_truth_in_about_95_percent(name: str) -> None:
    random = np.random.default_rng(2)
    images = np.array(CASES[name][0])
    labels = np.repeat(np.arange(len(images)), images)
    only_a, only_b = np.full(len(images), 0.05), np.linspace(0.02, 0.2, len(images))
    truth, trials, held = float((only_a - only_b).mean()), 500, 0
    for _ in range(trials):
        chance = random.random(len(labels))
        a = chance < only_a[labels]
        b = (chance >= only_a[labels]) & (chance < (only_a + only_b)[labels])
        held += balanced_difference(a, b, labels, len(images)).holds(truth)
    assert held / trials > 0.92


def test_of_equally_many_images_the_balanced_accuracy_is_the_accuracy() -> None:
    balanced = balanced_accuracy(np.array([900, 800, 700]), np.array([1000, 1000, 1000]))
    plain = wilson_interval(2400, 3000)
    assert balanced.value == pytest.approx(plain.value)
    assert balanced.interval == pytest.approx(plain.interval, abs=0.002)


def test_a_class_without_images_does_not_count() -> None:
    with_it = balanced_accuracy(np.array([9, 0, 5]), np.array([10, 0, 10]))
    assert with_it == balanced_accuracy(np.array([9, 5]), np.array([10, 10]))
    with pytest.raises(ValueError, match="no class"):
        balanced_accuracy(np.zeros(3, int), np.zeros(3, int))


def test_of_one_class_the_balanced_difference_is_the_paired_one() -> None:
    random = np.random.default_rng(3)
    a, b = random.random(400) < 0.8, random.random(400) < 0.7
    ours, theirs = balanced_difference(a, b, np.zeros(400, int), 1), paired_difference(a, b)
    assert ours.value == pytest.approx(theirs.value)
    assert ours.interval == pytest.approx(theirs.interval, abs=0.002)


def test_a_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    a, b = labels == 0, labels == 1
    assert paired_difference(a, b).low > 0.5
    assert balanced_difference(a, b, labels, 2).value == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_a_confusion_counts_every_image_once(pairs: list[tuple[int, int]]) -> None:
    labels, answers = (np.array(column) for column in zip(*pairs, strict=True))
    cells = confusion(labels, answers, 5)
    assert sum(images for _, _, images in cells) == len(pairs)
    assert [(label, answer) for label, answer, _ in cells] == sorted(set(pairs))
    assert all(images == pairs.count((label, answer)) for label, answer, images in cells)
    right = by_class(labels == answers, labels, 5)
    assert {k: images for k, answer, images in cells if k == answer} == {
        k: int(count) for k, count in enumerate(right) if count
    }


def test_always_answering_the_most_frequent_class_reaches_its_share() -> None:
    assert majority_share(np.array([44, 31, 18, 12, 9, 6])) == 44 / 120
