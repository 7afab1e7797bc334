"""What a network is shown of an image: the middle in evaluation, random crops in training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from stages.data.augmentation import PRESETS, Augmentation
from stages.data.geometry import as_evaluated, stored_side
from stages.data.variation import as_varied
from stages.data.view import View

SIDES = st.integers(1, 90)


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards; blue is constant."""
    pixels_HWC = np.full((height, width, 3), 128, np.uint8)
    pixels_HWC[..., 0] = np.linspace(0, 255, width).round()[None, :]
    pixels_HWC[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return pixels_HWC


def view(augmentation: Augmentation, resolution: int = 32) -> View:
    return View(resolution, "crop", augmentation, classes=3)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (200, 64)])
def test_evaluation_shows_the_middle_seven_eighths_of_the_shorter_side(height: int, width: int) -> None:
    shown_HWC = as_evaluated(gradient(height, width), 32, "crop").astype(float)
    side = 7 / 8 * min(height, width)
    for channel, length in ((0, width), (1, height)):
        low, high = ((length - side) / 2, (length + side) / 2)
        seen = shown_HWC[..., channel]
        assert seen.min() == pytest.approx(255 * (low + side / 64) / length, abs=6)
        assert seen.max() == pytest.approx(255 * (high - side / 64) / length, abs=6)
    assert np.all(shown_HWC[..., 2] == 128)


def test_a_stretched_image_is_shown_whole() -> None:
    shown_HWC = as_evaluated(gradient(60, 120), 30, "stretch")
    assert shown_HWC.shape == (30, 30, 3)
    assert shown_HWC[..., 0].min() < 8
    assert shown_HWC[..., 0].max() > 247


@given(
    SIDES, SIDES, st.sampled_from([1, 3]), st.sampled_from(["none", "light", "strong"]), st.integers(0, 99)
)
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_images_of_every_shape_become_squares(
    height: int, width: int, channels: int, preset: str, seed: int
) -> None:
    pixels_HWC = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    before = pixels_HWC.copy()
    rng = np.random.default_rng(seed)
    varied_HWC = as_varied(pixels_HWC, view(PRESETS[preset]), rng)  # type: ignore[index]
    assert (varied_HWC.shape, varied_HWC.dtype) == ((32, 32, channels), np.uint8)
    assert as_evaluated(pixels_HWC, 24, "crop").shape == (24, 24, channels)
    np.testing.assert_array_equal(pixels_HWC, before)


def test_the_same_random_numbers_show_the_same() -> None:
    pixels_HWC = gradient(50, 70)
    first, again, other = (
        as_varied(pixels_HWC, view(PRESETS["strong"]), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    pixels_HWC = gradient(40, 60)
    varied = as_varied(pixels_HWC, view(PRESETS["none"]), np.random.default_rng(0))
    np.testing.assert_array_equal(varied, as_evaluated(pixels_HWC, 32, "crop"))


def test_random_crops_show_the_wanted_share_of_the_area_and_every_place() -> None:
    crops = [
        as_varied(gradient(64, 64), view(Augmentation(crop_scale=0.25)), np.random.default_rng(seed)).astype(
            int
        )
        for seed in range(200)
    ]
    widths = [np.ptp(crop[..., 0]) / 255 for crop in crops]
    heights = [np.ptp(crop[..., 1]) / 255 for crop in crops]
    areas = np.array(widths) * heights
    assert 0.2 < areas.min() < 0.35
    assert areas.max() > 0.85
    assert abs(np.mean([crop[..., 0].mean() for crop in crops]) - 127.5) < 8


def test_half_of_the_images_are_mirrored() -> None:
    rises = [
        as_varied(gradient(40, 40), view(Augmentation(flip=True)), np.random.default_rng(seed))[5, 20, 0]
        > 127
        for seed in range(100)
    ]
    assert 35 <= sum(rises) <= 65


@pytest.mark.parametrize(("side", "stored"), [(5000, 336), (421, 336), (420, 420), (375, 375), (40, 40)])
def test_images_are_stored_half_as_large_again_as_networks_take_them_and_never_enlarged(
    side: int, stored: int
) -> None:
    assert stored_side(side, 224) == stored


def test_colours_change_as_pillow_changes_them() -> None:
    pixels_HWC = as_evaluated(gradient(64, 64) // 2 + 40, 32, "stretch")
    expected = Image.fromarray(pixels_HWC)
    rng = np.random.default_rng(5)
    factors = rng.uniform(0.7, 1.3, 3)
    for enhancer, factor in zip(
        (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness), factors, strict=True
    ):
        expected = enhancer(expected).enhance(float(factor))
    varied = as_varied(pixels_HWC, View(32, "stretch", Augmentation(colour=0.3), 3), np.random.default_rng(5))
    assert np.abs(varied.astype(int) - np.asarray(expected)).max() <= 4


def test_a_grey_image_changes_brightness_and_contrast_alone() -> None:
    grey = gradient(32, 32)[..., :1] // 2 + 60
    varied = as_varied(grey, View(32, "stretch", Augmentation(colour=0.3), 3), np.random.default_rng(1))
    assert varied.shape == (32, 32, 1)
    assert not np.array_equal(varied, grey)
