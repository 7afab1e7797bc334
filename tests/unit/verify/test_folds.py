"""Cross-validation: pooled figures, intervals against a known truth, and folds of different sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.sample_variants import PHOTOS, sample_folds

from nasflow.base.errors import UsageError
from pipeline.artifact import document_bytes
from stages.documents import CrossValidation, Verification
from stages.verification.folds import FoldOutcome, agreement, cross_validation, pooled
from stages.verification.statistics import paired_difference

Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def folds() -> list[FoldOutcome]:
    return sample_folds(5)


def changed(fold: FoldOutcome, **images: object) -> FoldOutcome:
    verification = fold.verification.model_copy(update={"images": fold.images.model_copy(update=images)})
    return replace(fold, verification=verification)


def test_accuracy_is_that_of_all_images(folds: list[FoldOutcome]) -> None:
    whole = cross_validation(folds)
    found = whole.networks[0]
    assert found.name == "found"
    assert whole.test_images == 600
    assert found.accuracy_percent == pytest.approx(100 * sum(found.correct_by_class) / 600)
    assert [one.test for one in whole.classes] == [5 * images for _, images, _ in PHOTOS]
    by_fold = [fold.found_accuracy_percent - fold.reference_accuracy_percent for fold in whole.folds]
    reference = next(n for n in whole.networks if n.name == "reference")
    assert reference.accuracy_points == pytest.approx(-sum(by_fold) / 5)
    assert CrossValidation.model_validate_json(document_bytes(whole)) == whole


def test_the_order_in_which_folds_are_given_does_not_matter(folds: list[FoldOutcome]) -> None:
    assert cross_validation(folds[::-1]) == cross_validation(folds)


def test_the_networks_that_every_fold_has_are_pooled_by_name(folds: list[FoldOutcome]) -> None:
    names = [network.name for network in cross_validation(folds).networks]
    assert names == ["found", "reference", "random", "efficientnet_lite0", "mobilenet_v2_1"]


def test_more_images_than_one_fold_has_narrow_the_interval(folds: list[FoldOutcome]) -> None:
    whole = cross_validation(folds).networks[0]
    one = folds[0].found
    width = whole.accuracy_interval_95[1] - whole.accuracy_interval_95[0]
    assert width < 0.7 * (one.accuracy_interval_95[1] - one.accuracy_interval_95[0])


def test_folds_that_differ_by_more_than_chance_widen_the_interval() -> None:
    calm = pooled([(70.0, (66.0, 74.0))] * 5, [100] * 5)
    wild = pooled([(value, (value - 4, value + 4)) for value in (50.0, 60.0, 70.0, 80.0, 90.0)], [100] * 5)
    assert calm.value == pytest.approx(wild.value)
    assert calm.high - calm.low == pytest.approx(8 / 5**0.5)
    assert wild.high - wild.low > 5 * (calm.high - calm.low)


def linear(x: Matrix, y: NDArray[np.int64], ridge: float) -> Matrix:
    whole = np.c_[x, np.ones(len(x))]
    weights: Matrix = np.linalg.solve(
        whole.T @ whole + ridge * np.eye(whole.shape[1]), whole.T @ (2.0 * y - 1)
    )
    return weights


@pytest.mark.parametrize("luck", [0.0, 0.3])
def test_the_interval_holds_the_truth_for_classifiers_that_share_training_images(luck: float) -> None:
    random = np.random.default_rng(4)
    images, size, folds = 200, 10, 5

    def draw(count: int) -> tuple[Matrix, NDArray[np.int64]]:
        y = random.integers(0, 2, count)
        x = random.normal(size=(count, size))
        x[:, :4] += 0.4 * (2 * y - 1)[:, None]
        return x, y

    def train(x: Matrix, y: NDArray[np.int64]) -> tuple[Matrix, Matrix]:
        return linear(x, y, 0.1), linear(x, y, 30.0) + random.normal(0, luck, size + 1)

    def right(weights: Matrix, x: Matrix, y: NDArray[np.int64]) -> NDArray[np.bool_]:
        answers: NDArray[np.bool_] = (np.c_[x, np.ones(len(x))] @ weights > 0) == (y == 1)
        return answers

    many = draw(20_000)
    differences = []
    for _ in range(150):
        a, b = train(*draw(images - images // folds))
        differences.append(right(a, *many).mean() - right(b, *many).mean())
    truth, held, trials = float(np.mean(differences)), 0, 200
    for _ in range(trials):
        x, y = draw(images)
        fold = random.permutation(images) % folds
        figures = []
        for k in range(folds):
            test = fold == k
            a, b = train(x[~test], y[~test])
            estimate = paired_difference(right(a, x[test], y[test]), right(b, x[test], y[test]))
            figures.append((estimate.value, estimate.interval))
        held += pooled(figures, [images // folds] * folds).holds(truth)
    assert held / trials > 0.92


def test_architectures_agree_layer_by_layer() -> None:
    same = agreement([(0, 1, 2), (0, 1, 2)], (4, 4, 1))
    assert (same.distinct, same.layers, same.same_in_all, same.shared_percent) == (1, 2, 2, 100)
    half = agreement([(0, 1, 0), (0, 3, 0), (0, 1, 0)], (4, 4, 1))
    assert (half.distinct, half.same_in_all) == (2, 1)
    assert half.shared_percent == pytest.approx(100 * (1 + 2 + 1) / 6)
    assert half.chance_percent == 25


@pytest.mark.parametrize("kept", [[0], [0, 1, 2, 3], [0, 1, 2, 3, 3], []])
def test_a_missing_or_repeated_fold_is_refused(folds: list[FoldOutcome], kept: list[int]) -> None:
    with pytest.raises(UsageError, match="cross-validation needs each of"):
        cross_validation([folds[index] for index in kept])


@pytest.mark.parametrize("images", [{"split_seed": 9}, {"folds": 6}, {"name": "other"}, {"classes": ()}])
def test_folds_of_another_data_set_are_refused(folds: list[FoldOutcome], images: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="not those of one data set"):
        cross_validation([*folds[:4], changed(folds[4], **images)])


def test_a_fold_that_an_earlier_version_verified_is_refused(folds: list[FoldOutcome]) -> None:
    old = folds[0].verification.model_copy(update={"images": None})
    assert isinstance(old, Verification)
    with pytest.raises(UsageError, match="earlier version"):
        cross_validation([replace(folds[0], verification=old), *folds[1:]])
