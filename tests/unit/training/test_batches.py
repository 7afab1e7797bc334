"""Batches: every image once an epoch, moved and mirrored but never changed, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from stages.data.config import DataConfig, open_dataset
from stages.data.grey import GreyImages
from stages.seeds import derived_seed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> GreyImages:
    return open_dataset(DataConfig(architecture_images=230)).load("choice")


def pixels_of(x_NCHW: Tensor) -> Tensor:
    """Back to uint8 grey (N, H, W)."""
    return (x_NCHW[:, 0] * 127.5 + 127.5).round().to(torch.uint8)


def variants(pixels_HW: Tensor) -> Iterator[Tensor]:
    """The image mirrored or not, and shifted by up to two pixels, written with padding and cropping."""
    padded = torch.nn.functional.pad(pixels_HW, (2, 2, 2, 2))
    for down in range(5):
        for right in range(5):
            moved = padded[down : down + 32, right : right + 32]
            yield moved
            yield moved.flip(1)


def test_an_epoch_shows_every_image_once_but_for_the_last_incomplete_batch(images: GreyImages) -> None:
    batches = images.batches(50, CPU)
    assert len(batches) == 4
    epoch = list(batches.training(1, 0))
    assert [x_NCHW.shape for x_NCHW, _ in epoch] == [(50, 3, 32, 32)] * 4
    # A shift moves background only, so that an image keeps its sum.
    seen = sorted(int(pixels_of(x)[i].sum()) for x, _ in epoch for i in range(50))
    everything = [int(x.sum()) for x in images.pixels_NHW.astype(np.int64)]
    remaining = list(everything)
    for total in seen:
        remaining.remove(total)
    assert len(remaining) == 30


def test_images_are_mirrored_and_shifted_by_up_to_two_pixels_and_keep_their_labels(
    images: GreyImages,
) -> None:
    originals: dict[bytes, tuple[int, int]] = {}
    for pixels, label in zip(torch.from_numpy(images.pixels_NHW[:40]), images.labels, strict=False):
        for number, variant in enumerate(variants(pixels)):
            originals[variant.numpy().tobytes()] = (int(label), number)
    few = GreyImages(images.pixels_NHW[:40], images.labels[:40])
    used = set()
    for epoch in range(8):
        for x_NCHW, labels_N in few.batches(20, CPU).training(0, epoch):
            for pixels, label in zip(pixels_of(x_NCHW), labels_N, strict=True):
                known, number = originals[pixels.contiguous().numpy().tobytes()]
                assert known == int(label)
                used.add(number)
    assert len(used) == 50, "not all shifts and mirrorings occur"


def test_batches_repeat_with_seed_and_epoch_and_go_on_from_any_number(images: GreyImages) -> None:
    batches = images.batches(50, CPU)
    whole = list(batches.training(7, 2))
    for first in range(5):
        rest = list(batches.training(7, 2, first=first))
        assert len(rest) == 4 - first
        for (x, labels), (y, others) in zip(rest, whole[first:], strict=True):
            assert torch.equal(x, y)
            assert torch.equal(labels, others)
    for seed, epoch in ((7, 3), (8, 2)):
        assert not torch.equal(next(batches.training(seed, epoch))[0], whole[0][0])


def test_in_order_images_are_those_that_devices_are_given(images: GreyImages) -> None:
    batches = list(images.batches(50, CPU).in_order(100))
    assert [len(labels) for _, labels in batches] == [100, 100, 30]
    x_NCHW, labels_N = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    expected_NHWC = images.batch_NHWC(slice(None))
    np.testing.assert_array_equal(x_NCHW.permute(0, 2, 3, 1).numpy(), expected_NHWC)
    np.testing.assert_array_equal(labels_N.numpy(), images.labels)
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)


def test_fewer_images_than_a_batch_are_one_batch(images: GreyImages) -> None:
    batches = images.batches(4096, CPU)
    assert (len(batches), batches.batch_size) == (1, 230)
    assert [len(labels) for _, labels in batches.training(0, 0)] == [230]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 9))
@hypothesis_settings(max_examples=100)
def test_seeds_are_usable_and_change_with_every_part(parts: list[int], index: int, change: int) -> None:
    seed = derived_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed == derived_seed(*parts)
    other = list(parts)
    other[index % len(parts)] += change
    assert derived_seed(*other) != seed
    assert derived_seed(*parts, 0) != seed


def test_seeds_of_neighbouring_numbers_have_nothing_in_common() -> None:
    bits = np.array([[derived_seed(a, b) >> k & 1 for k in range(63)] for a in range(40) for b in range(40)])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.07
    assert np.abs(np.corrcoef(bits.T) - np.eye(63)).max() < 0.12
