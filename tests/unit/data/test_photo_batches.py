"""Batches of photos: the same for the same seed however many workers read them; balanced where asked for."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasflow.base.errors import IntegrityError, MachineError
from nasflow.base.processes import usable_cores
from stages.data.augmentation import PRESETS, Augmentation, AugmentationConfig
from stages.data.batch_augmentation import BatchAugmentation
from stages.data.decoded import DecodedEachTime, DecodedOnce, decoded_once
from stages.data.geometry import Pixels
from stages.data.loading import PhotoBatches
from stages.data.photos import Photos, class_weights
from stages.data.sharing import Sharing
from stages.data.view import View

CPU = torch.device("cpu")
LABELS = np.repeat(np.arange(3), (20, 6, 4)).astype(np.int64)


def one_colour(number: int) -> Pixels:
    """Image ``number``: its number in red, no two alike."""
    return np.full((20 + number % 3, 24, 3), (number, 255 - number, 90), np.uint8)


def photos(augmentation: Augmentation = PRESETS["none"], **more: object) -> Photos:
    view = View(16, "crop", augmentation, classes=3, names=tuple(f"{n}.jpg" for n in range(len(LABELS))))
    source = DecodedEachTime(one_colour, len(LABELS))
    return Photos(source, np.arange(len(LABELS)), LABELS, view, workers=0, **more)  # type: ignore[arg-type]


def numbers(x_NCHW: torch.Tensor) -> list[int]:
    return (x_NCHW[:, 0, 8, 8] * 127.5 + 127.5).round().int().tolist()


def test_an_epoch_shows_every_photo_once_with_its_label() -> None:
    batches = photos().batches(6, CPU)
    assert (len(batches), batches.batch_size) == (5, 6)
    seen = []
    for x_NCHW, labels_N in batches.training(3, 0):
        assert (x_NCHW.shape, x_NCHW.dtype) == ((6, 3, 16, 16), torch.float32)
        assert x_NCHW.is_contiguous(memory_format=torch.channels_last)
        assert labels_N.tolist() == LABELS[numbers(x_NCHW)].tolist()
        seen += numbers(x_NCHW)
    assert sorted(seen) == list(range(30))


@pytest.mark.parametrize("preset", ["light", "strong"])
def test_batches_repeat_with_seed_and_epoch_and_go_on_from_any_number(preset: str) -> None:
    batches = photos(AugmentationConfig(preset=preset).resolved()).batches(6, CPU)  # type: ignore[arg-type]
    whole = list(batches.training(7, 2))
    state = torch.random.get_rng_state()
    rest = list(batches.training(7, 2, first=3))
    assert torch.equal(state, torch.random.get_rng_state()), "the global random state is left alone"
    assert len(rest) == 2
    for (x, labels), (y, others) in zip(rest, whole[3:], strict=True):
        assert torch.equal(x, y)
        assert torch.equal(labels, others)
    assert not torch.equal(next(batches.training(7, 3))[0], whole[0][0])


def with_workers(few: Photos, workers: int, timeout_seconds: float = 60.0) -> PhotoBatches:
    return PhotoBatches(
        few.pixels,
        few.numbers_N,
        few.labels,
        few.view,
        batch_size=6,
        device=CPU,
        workers=workers,
        timeout_seconds=timeout_seconds,
    )


def test_worker_processes_change_no_bit() -> None:
    few = photos(PRESETS["light"])
    alone, helped = (list(with_workers(few, workers).training(1, 0)) for workers in (0, 2))
    for (x, labels), (y, others) in zip(alone, helped, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(labels, others)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_train_together_load_their_own_images_alone(count: int) -> None:
    few = photos(PRESETS["light"])
    whole = list(few.batches(6, CPU).training(2, 0))
    read: list[list[int]] = []
    shares = []
    for rank in range(count):
        seen: list[int] = []
        source = DecodedEachTime(lambda number, seen=seen: seen.append(number) or one_colour(number), 30)  # type: ignore[misc]
        batches = replace(few, pixels=source).batches(6, CPU, Sharing(rank, count))
        shares.append(list(batches.training(2, 0)))
        read.append(seen)
    assert sorted(number for seen in read for number in seen) == list(range(30))
    assert max(map(len, read)) <= 5 * -(-6 // count)
    for index, (x, labels) in enumerate(whole):
        # Of batches of other sizes, some processors round otherwise.
        torch.testing.assert_close(torch.cat([share[index][0] for share in shares]), x, rtol=0, atol=1e-5)
        assert torch.equal(torch.cat([share[index][1] for share in shares]), labels)


def test_loaders_of_trainings_side_by_side_are_no_more_than_wanted_or_than_cores() -> None:
    few = photos()
    for beside in (1, 2, 3, 64):
        sharing = Sharing(beside=beside)
        unset = replace(few, workers=None).batches(6, CPU, sharing).workers
        assert beside * unset <= usable_cores()
        assert beside * replace(few, workers=4).batches(6, CPU, sharing).workers <= 4
    assert replace(few, workers=4).batches(6, CPU).workers == 4


@dataclass(frozen=True)
class Deadly:
    """Image 5 ends the process that reads it, or never comes."""

    hangs: bool

    def __len__(self) -> int:
        return len(LABELS)

    def read(self, number: int) -> Pixels:
        if number == 5 and self.hangs:
            signal.pause()
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return one_colour(number)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_worker_that_dies_or_hangs_is_named_with_its_image(hangs: bool) -> None:
    # One that hangs is waited for so long; a worker that dies is told at once, however slowly it began.
    batches = with_workers(photos(), 1, timeout_seconds=5.0 if hangs else 600.0)
    batches.pixels = Deadly(hangs)
    with pytest.raises(MachineError, match=r"5\.jpg") as caught:
        list(batches.training(0, 0))
    assert "data.workers" in caught.value.hint


def test_in_order_photos_are_those_that_devices_are_given() -> None:
    few = photos(PRESETS["strong"])
    shown = list(few.batches(6, CPU).in_order(8))
    assert [len(labels) for _, labels in shown] == [8, 8, 8, 6]
    x_NCHW = torch.cat([x for x, _ in shown])
    np.testing.assert_array_equal(x_NCHW.permute(0, 2, 3, 1).numpy(), few.batch_NHWC(slice(None)))
    third = next(few.batches(6, CPU).in_order(8, first=2))
    assert torch.equal(third[0], shown[2][0])


@pytest.mark.parametrize(
    "augmentation",
    [PRESETS["strong"], Augmentation(randaugment=2, erasing=0.5), Augmentation(mixup=1.0)],
    ids=["all", "not mixed", "mixup"],
)
def test_shares_of_a_batch_are_changed_as_the_whole_of_it_by_their_own_images_and_partners_alone(
    augmentation: Augmentation,
) -> None:
    count, shares = 11, (slice(0, 4), slice(4, 8), slice(8, 11))
    x_NCHW = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels_N = torch.arange(count) % 3
    for seed in range(8):
        whole, of_all = BatchAugmentation(augmentation, 3)(x_NCHW, labels_N, seed=seed, mix=True)
        for share in shares:
            change = BatchAugmentation(augmentation, 3).drawn(x_NCHW.shape, seed=seed, mix=True)
            own_N, partners_N = torch.arange(share.start, share.stop), change.partners(share)
            rows_N = torch.cat([own_N, partners_N[~torch.isin(partners_N, own_N)]])
            assert len(rows_N) <= 2 * len(own_N)
            changed, labels = change(x_NCHW[rows_N], rows_N, labels_N, share)
            torch.testing.assert_close(changed, whole[share])
            torch.testing.assert_close(labels, of_all[share])


def test_pixels_are_exchanged_only_where_images_are_mixed_with_those_of_others() -> None:
    exchanged: list[tuple[int, ...]] = []

    def gather(share: torch.Tensor, count: int) -> torch.Tensor:
        exchanged.append(tuple(share.shape[1:]))
        return torch.cat([share, share])[:count]

    sharing = Sharing(0, 2, gather)
    for augmentation, pixels in ((Augmentation(randaugment=2, erasing=0.5), 0), (Augmentation(mixup=1.0), 5)):
        exchanged.clear()
        list(photos(augmentation).batches(6, CPU, sharing).training(1, 0))
        assert exchanged.count(()) == 5, "labels"
        assert sum(shape != () for shape in exchanged) <= pixels


def test_mixed_labels_add_up_and_say_what_the_pixels_are() -> None:
    only_mixup = Augmentation(mixup=1.0)
    mixed = [batch for epoch in range(4) for batch in photos(only_mixup).batches(6, CPU).training(0, epoch)]
    assert all(labels.shape == (6, 3) for _, labels in mixed)
    assert all(torch.allclose(labels.sum(1), torch.ones(6)) for _, labels in mixed)
    assert any(0.05 < float(labels.max(1).values.min()) < 0.95 for _, labels in mixed)
    unmixed = next(photos(only_mixup).batches(6, CPU).training(0, 0, mix=False))[1]
    assert (unmixed.shape, unmixed.dtype) == ((6,), torch.int64)


def test_cutmix_takes_as_much_of_a_label_as_of_the_area() -> None:
    halves = photos(Augmentation(cutmix=1.0)).batches(30, CPU)
    changed = 0
    for epoch in range(8):
        for x_NCHW, labels_NK in halves.training(0, epoch):
            for image, label in zip(x_NCHW, labels_NK, strict=True):
                values, counts = np.unique(image[0].numpy(), return_counts=True)
                classes = LABELS[((values * 127.5 + 127.5).round().astype(int))]
                area = np.bincount(classes, counts / counts.sum(), minlength=3)
                np.testing.assert_allclose(label.numpy(), area, atol=1e-6)
                changed += len(values) > 1
    assert changed > 20


def test_sampling_shows_every_class_equally_often() -> None:
    batches = photos(balance="sampling").batches(30, CPU)
    shown = Counter(
        int(label) for epoch in range(10) for _, labels in batches.training(0, epoch) for label in labels
    )
    assert all(abs(shown[label] / 300 - 1 / 3) < 0.03 for label in range(3))
    assert batches.class_weights_K is None


def test_weights_count_every_class_equally() -> None:
    weights_K = photos(balance="weights").batches(30, CPU).class_weights_K
    assert weights_K is not None
    sums = weights_K.numpy() * np.bincount(LABELS)
    np.testing.assert_allclose(sums, sums.mean(), rtol=1e-6)
    assert sums.sum() == pytest.approx(len(LABELS))
    np.testing.assert_array_equal(class_weights(np.array([0, 0, 2]), 3), [0.75, 0, 1.5])


@pytest.mark.parametrize("balance", ["none", "weights", "sampling"])
def test_evaluation_counts_every_class_equally_where_training_does(balance: str) -> None:
    weights_K = photos(balance=balance).batches(30, CPU).evaluation_weights_K
    if balance == "none":
        assert weights_K is None
        return
    assert weights_K is not None
    np.testing.assert_allclose(weights_K.numpy() * np.bincount(LABELS), 10, rtol=1e-6)


def test_a_file_of_decoded_images_that_is_cut_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = decoded_once(lambda number: np.full((4, 4, 3), number, np.uint8), ["a", "b"], "cut", workers=1)
    assert kept.read(1).tolist() == np.ones((4, 4, 3)).tolist()
    (path,) = tmp_path.rglob("pixels.bin")
    path.write_bytes(path.read_bytes()[:-1])
    assert not kept.read(0).any()
    with pytest.raises(IntegrityError, match=r"pixels\.bin"):
        kept.read(1)
    path.unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        kept.read(0)


def test_decoded_images_are_decoded_once_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list[int] = []

    def decode(number: int) -> Pixels:
        calls.append(number)
        return one_colour(number)

    names = [str(number) for number in range(30)]
    kept = decoded_once(decode, names, "side 24", workers=2)
    again = decoded_once(decode, names, "side 24", workers=2)
    assert sorted(calls) == list(range(30))
    for source in (kept, again):
        assert len(source) == 30
        for number in range(30):
            np.testing.assert_array_equal(source.read(number), one_colour(number))
    decoded_once(decode, [*names[:-1], "changed"], "side 24", workers=1)
    decoded_once(decode, names, "side 48", workers=1)
    assert len(calls) == 90
    assert isinstance(kept, DecodedOnce)


def test_cached_or_not_photos_are_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def as_pillow_has_it(number: int) -> Image.Image:
        noise = np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8)
        return Image.fromarray(noise)

    each_time = photos(PRESETS["light"])
    each_time = replace(each_time, pixels=DecodedEachTime(as_pillow_has_it, len(LABELS)))
    names = [str(number) for number in range(len(LABELS))]
    once = replace(each_time, pixels=decoded_once(as_pillow_has_it, names, "", workers=1))
    for way in ("training", "in_order"):
        arguments = (1, 0) if way == "training" else ()
        pairs = zip(
            *(getattr(few.batches(6, CPU), way)(*arguments) for few in (each_time, once)), strict=True
        )
        for (x, labels), (y, others) in pairs:
            assert torch.equal(x, y)
            assert torch.equal(labels, others)


def test_sets_that_several_want_at_the_same_time_are_decoded_by_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoded: Counter[int] = Counter()
    together = threading.Barrier(4)

    def decode(number: int) -> Pixels:
        decoded[number] += 1
        return one_colour(number)

    def want(_: int) -> DecodedOnce:
        together.wait(timeout=60)
        return decoded_once(decode, ["a", "b", "c"], "16 3", workers=1)

    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(want, range(4)))
    assert decoded == Counter({0: 1, 1: 1, 2: 1})
    assert all(np.array_equal(one.read(2), one_colour(2)) for one in sets)


def test_where_files_cannot_be_locked_images_are_decoded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(_file: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert np.array_equal(decoded_once(one_colour, ["a", "b"], "16 3").read(1), one_colour(1))


def test_an_unfinished_cache_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def stops(number: int) -> Pixels:
        if number == 3:
            raise KeyboardInterrupt
        return one_colour(number)

    names = [str(number) for number in range(6)]
    with pytest.raises(KeyboardInterrupt):
        decoded_once(stops, names, "", workers=1)
    assert list((tmp_path / "nasflow" / "images").iterdir()) == []
    assert len(decoded_once(one_colour, names, "", workers=1)) == 6


def test_folders_of_decoded_images_that_nobody_uses_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = [str(number) for number in range(6)]
    cache = tmp_path / "nasflow" / "images"
    now = time.time()
    for name, days in (("killed.abc", 3), ("at work.abc", 0.5), ("unused", 40), ("used", 20)):
        (cache / name).mkdir(parents=True)
        (cache / name / "pixels.bin").write_bytes(b"x")
        for path in (cache / name / "pixels.bin", cache / name):
            os.utime(path, (now - days * 86_400,) * 2)
    decoded_once(one_colour, names, "", workers=1)
    (made,) = {path.name for path in cache.iterdir()} - {"at work.abc", "used"}
    os.utime(cache / made, (now - 40 * 86_400,) * 2)
    decoded_once(one_colour, names, "", workers=1)
    decoded_once(one_colour, names, "other", workers=1)
    assert (cache / made).is_dir(), "it was used just now"
