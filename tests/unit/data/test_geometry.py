"""What a network is shown of an image: the middle in evaluation, random crops in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from stages.data.augmentation import PRESETS, Augmentation
from stages.data.colours import on_device
from stages.data.geometry import Picture, as_evaluated, stored_side
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


def varied_HWC(picture: Picture, how: View, rng: np.random.Generator) -> np.ndarray:
    """As training shows an image, in 0..255, rounded."""
    pixels_HWC, factors = as_varied(picture, how, rng)
    factors_N3 = torch.from_numpy(factors[None]) if how.augmentation.colour else None
    x_NCHW = on_device(pixels_HWC[None], torch.device("cpu"), factors_N3)
    assert x_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert -1 <= float(x_NCHW.min()) <= float(x_NCHW.max()) <= 1
    return (x_NCHW[0].permute(1, 2, 0).numpy() * 127.5 + 127.5).round().astype(np.uint8)


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
    SIDES,
    SIDES,
    st.sampled_from([1, 3]),
    st.sampled_from(["none", "light", "strong"]),
    st.sampled_from([31, 32]),
    st.integers(0, 99),
)
@hypothesis_settings(max_examples=60)
def test_images_of_every_shape_become_squares(
    height: int, width: int, channels: int, preset: str, resolution: int, seed: int
) -> None:
    pixels_HWC = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    before = pixels_HWC.copy()
    rng = np.random.default_rng(seed)
    shown_HWC = varied_HWC(pixels_HWC, view(PRESETS[preset], resolution), rng)  # type: ignore[index]
    assert shown_HWC.shape == (resolution, resolution, channels)
    assert as_evaluated(pixels_HWC, 24, "crop").shape == (24, 24, channels)
    np.testing.assert_array_equal(pixels_HWC, before)


def test_the_same_random_numbers_show_the_same() -> None:
    pixels_HWC = gradient(50, 70)
    first, again, other = (
        varied_HWC(pixels_HWC, view(PRESETS["strong"]), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    pixels_HWC = gradient(40, 60)
    varied = varied_HWC(pixels_HWC, view(PRESETS["none"]), np.random.default_rng(0))
    np.testing.assert_array_equal(varied, as_evaluated(pixels_HWC, 32, "crop"))


def test_random_crops_show_the_wanted_share_of_the_area_and_every_place() -> None:
    crops = [
        varied_HWC(gradient(64, 64), view(Augmentation(crop_scale=0.25)), np.random.default_rng(seed)).astype(
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
        varied_HWC(gradient(40, 40), view(Augmentation(flip=True)), np.random.default_rng(seed))[5, 20, 0]
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
    varied = varied_HWC(
        pixels_HWC, View(32, "stretch", Augmentation(colour=0.3), 3), np.random.default_rng(5)
    )
    assert np.abs(varied.astype(int) - np.asarray(expected)).max() <= 4


def test_a_grey_image_changes_brightness_and_contrast_alone() -> None:
    grey = gradient(32, 32)[..., :1] // 2 + 60
    varied = varied_HWC(grey, View(32, "stretch", Augmentation(colour=0.3), 3), np.random.default_rng(1))
    assert varied.shape == (32, 32, 1)
    assert not np.array_equal(varied, grey)


@pytest.mark.parametrize("preset", ["none", "light", "strong"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pillows_image_and_its_pixels_show_the_same(preset: str, channels: int) -> None:
    pixels_HWC = gradient(50, 70)[..., :channels]
    image = Image.fromarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC)
    for seed in range(8):
        from_image, from_pixels = (
            varied_HWC(picture, view(PRESETS[preset]), np.random.default_rng(seed))  # type: ignore[index]
            for picture in (image, pixels_HWC)
        )
        np.testing.assert_array_equal(from_image, from_pixels)
    np.testing.assert_array_equal(as_evaluated(image, 32, "crop"), as_evaluated(pixels_HWC, 32, "crop"))


def test_every_image_of_a_batch_changes_its_colours_by_its_own_factors() -> None:
    images_NHWC = torch.from_numpy(np.stack([gradient(32, 32), gradient(32, 32) // 2]))
    factors_N3 = torch.tensor([[0.8, 1.1, 1.2], [1.2, 0.9, 1.0]])
    together = on_device(images_NHWC, torch.device("cpu"), factors_N3)
    for index in range(2):
        alone = on_device(images_NHWC[index, None], torch.device("cpu"), factors_N3[index, None])
        torch.testing.assert_close(together[index], alone[0])
    same = on_device(images_NHWC, torch.device("cpu"), torch.ones(2, 3))
    torch.testing.assert_close(same, on_device(images_NHWC, torch.device("cpu")), atol=1e-6, rtol=0)
