from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nasflow.base.errors import ConversionError
from stages.conversion.parity import Parity, Tolerance, check_parity, compare, evenly_spaced

LOGITS = np.array([[1.0, 2.0, -4.0], [3.0, 0.0, 1.0]], np.float32)


def limits(parity: Parity, *, relative: float = 1e-3, agreement: float = 99.9, snr_db: float = 0.0) -> None:
    check_parity(
        parity,
        np.array([70, 90]),
        Tolerance(relative, agreement, snr_db),
        name="found",
    )


def test_equal_logits_agree_entirely() -> None:
    parity = compare(LOGITS, LOGITS.copy(), name="found")

    assert parity == Parity(2, 0.0, 4.0, 100.0, 200.0, 0)
    limits(parity)


def test_the_largest_difference_is_measured_against_the_largest_logit() -> None:
    other = LOGITS.copy()
    other[1, 0] += 0.0039

    parity = compare(LOGITS, other, name="found")

    assert parity.max_abs_diff == pytest.approx(0.0039, rel=1e-3)
    assert (parity.logit_scale, parity.worst) == (4.0, 1)
    limits(parity)
    with pytest.raises(
        ConversionError, match=r"0.0039 \(allowed 0.002: 0.0005 of the largest logit 4\)"
    ) as caught:
        limits(parity, relative=5e-4)
    assert "validation image 90" in caught.value.message


def test_another_class_is_refused_however_close_the_logits_are() -> None:
    tied = np.array([[1.0, 1.00001, 0.0], [3.0, 0.0, 1.0]], np.float32)
    other = tied.copy()
    other[0, 0] = 1.00002

    with pytest.raises(ConversionError, match=r"same class for 50.00 % of 2 images \(needed 99.9 %\)"):
        limits(compare(tied, other, name="found"))


def test_noise_on_many_small_logits_is_refused_though_the_largest_logit_hides_each_difference() -> None:
    logits = np.ones((1, 10_000), np.float32)
    logits[0, 0] = 1000
    parity = compare(logits, logits + np.float32(0.05), name="found")
    assert parity.max_relative_diff == pytest.approx(5e-5, rel=1e-3)
    assert parity.snr_db == pytest.approx(46.0, abs=0.1)
    limits(parity, relative=1e-4, snr_db=40.0)
    with pytest.raises(ConversionError, match=r"signal-to-noise ratio 46\.1 dB \(needed 60\.0 dB\)"):
        limits(parity, relative=1e-4, snr_db=60.0)
    silent = compare(LOGITS * 0, LOGITS, name="found")
    assert (silent.snr_db, silent.max_relative_diff) == (-200.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(bad: float) -> None:
    other = LOGITS.copy()
    other[1, 2] = bad

    with pytest.raises(ConversionError, match="the TFLite model answers with NaN or infinity for 1 of 2"):
        compare(LOGITS, other, name="found")


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(
        ConversionError, match=r"answers with \[2, 2\] numbers, the PyTorch network with \[2, 3\]"
    ):
        compare(LOGITS, LOGITS[:, :2], name="found")


def test_images_are_spread_over_the_whole_set_and_never_repeated() -> None:
    assert evenly_spaced(5, 256).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(5000, 1).tolist() == [0]
    chosen = evenly_spaced(5000, 256)
    assert (chosen[0], chosen[-1], len(set(chosen.tolist()))) == (0, 4999, 256)


def test_what_float32_rounds_off_is_allowed_up_to_a_twentieth_of_the_largest_logit() -> None:
    figures = {"logit_scale": 4.0, "top1_agreement_percent": 100.0, "snr_db": 40.0, "worst": 0}
    deep = Parity(2, max_abs_diff=0.19, rounding=0.05, **figures)
    limits(deep)
    for other in (replace(deep, rounding=0.04), replace(deep, rounding=2.0, max_abs_diff=0.21)):
        with pytest.raises(ConversionError, match=r"differ by, and 0\.05 of the largest logit at most"):
            limits(other)
