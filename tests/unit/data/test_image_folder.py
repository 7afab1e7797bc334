"""A person's own folder as a data set: parts that do not leak, few broken files, the same pixels each way."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasflow.base.errors import DatasetMissingError, IntegrityError, UsageError
from nasflow.own_images.warnings import image_warnings
from stages.data.catalogue import allowed_broken, catalogue_of
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.data.dataset import PARTS, Part
from stages.data.decoded import SPARE_BYTES, DecodedEachTime, DecodedOnce
from stages.data.image_folder import ImageFolder
from stages.data.split_file import SplitFile, SplitLine, split_bytes
from stages.data.splitting import Shares

CPU = torch.device("cpu")
CLASSES = ("ape", "bee", "cat")
EACH = 24


def picture(seed: int) -> Image.Image:
    """Like no other: a random mosaic."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(cells).resize((80, 60), Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of 24 images each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(EACH):
            picture(1000 * label + number).save(root / name / f"{number:02d}.png")
    return root


def opened(root: Path, **settings: object) -> ImageFolder:
    config = SizedData.model_validate({"source": "folder", "path": str(root), "resolution": 32, **settings})
    dataset = open_dataset(config)
    assert isinstance(dataset, ImageFolder)
    return dataset


def test_images_whose_names_are_no_text_have_an_identity_of_their_own(folder: Path) -> None:
    found = {opened(folder).identity()["split_sha256"]}
    for number, name in enumerate((b"\xe9.png", b"\xe8.png")):
        copy = shutil.copytree(folder, folder.with_name(f"copy {number}"))
        (copy / "ape" / "00.png").rename(copy / "ape" / os.fsdecode(name))
        found.add(opened(copy).identity()["split_sha256"])
        assert len(opened(copy).load("train"))
    assert len(found) == 3


def test_how_classes_are_balanced_is_part_of_what_decides_a_result(folder: Path) -> None:
    plain = opened(folder).identity()
    assert set(plain) == {"dataset", "dataset_sha256", "split_sha256"}
    assert opened(folder, balance="weights").identity() == {**plain, "balance": "2"}


def paths_of(dataset: ImageFolder) -> Mapping[str, set[str]]:
    images = dataset.catalogue.inventory.images
    return {part: {images[n].path for n in dataset.catalogue.numbers(part)} for part in PARTS}


def test_every_image_is_in_one_part_and_few_images_share_architecture_and_choice(folder: Path) -> None:
    dataset = opened(folder)
    parts = paths_of(dataset)
    assert dataset.class_names == CLASSES
    assert dataset.shared_choice
    assert parts["architecture"] == parts["choice"]
    everything = parts["train"] | parts["choice"] | parts["test"]
    assert len(everything) == sum(len(parts[part]) for part in ("train", "choice", "test")) == 72
    assert dataset.counts == {part: len(paths) for part, paths in parts.items()}
    for part in PARTS:
        labels = dataset.load(part).labels
        assert np.ptp(np.bincount(labels, minlength=3)) <= 1


def test_copies_are_left_out_or_stay_together(folder: Path) -> None:
    content = (folder / "ape/00.png").read_bytes()
    (folder / "ape/copy.png").write_bytes(content)
    small = picture(1).resize((60, 45), Image.Resampling.BICUBIC)
    small.save(folder / "ape/near.jpg", quality=85)
    for copies, kept in (("leave_out", 73), ("keep_together", 74)):
        dataset = opened(folder, copies=copies)
        parts = paths_of(dataset)
        assert sum(len(parts[part]) for part in ("train", "choice", "test")) == kept
        for pair in (
            {"ape/01.png", "ape/near.jpg"},
            {"ape/00.png", "ape/copy.png"} & set().union(*parts.values()),
        ):
            assert any(pair <= parts[part] for part in PARTS), pair
    assert dict(opened(folder).catalogue.left_out()) == {"exact-copy": 1}


def test_an_image_in_two_classes_is_left_out_of_both(folder: Path) -> None:
    (folder / "bee/odd.png").write_bytes((folder / "ape/00.png").read_bytes())
    dataset = opened(folder)
    used = set().union(*paths_of(dataset).values())
    assert not used & {"bee/odd.png", "ape/00.png"}
    assert dict(dataset.catalogue.left_out()) == {"conflicting-labels": 2}


def test_one_broken_file_of_few_is_left_out_unless_none_may_be() -> None:
    allowed = [allowed_broken(most, 30) for most in (0.02, 0.5, 0, 2.0)]
    assert allowed == [1, 15, 0, 2]


def test_a_copy_of_a_given_test_image_leaves_train_and_not_test(folder: Path) -> None:
    root = folder.parent / "parts"
    for part, numbers in (("train", range(16)), ("test", range(16, 24))):
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
            for number in numbers:
                os.link(folder / name / f"{number:02d}.png", root / part / name / f"{number:02d}.png")
    (root / "train/cat/again.png").write_bytes((root / "test/cat/20.png").read_bytes())
    parts = paths_of(opened(root))
    assert "test/cat/20.png" in parts["test"]
    assert len(parts["test"]) == 24
    assert "train/cat/again.png" not in set().union(*parts.values())


def test_a_few_broken_files_are_left_out_and_many_are_an_error(folder: Path) -> None:
    (folder / "ape/03.png").write_bytes(b"")
    dataset = opened(folder)
    assert [image.path for image in dataset.catalogue.inventory.broken] == ["ape/03.png"]
    assert "ape/03.png" not in set().union(*paths_of(dataset).values())
    for number in range(4, 8):
        (folder / f"ape/{number:02d}.png").write_bytes(b"not an image")
    with pytest.raises(
        UsageError, match=r"5 of 72 images cannot be read.*allows 1.*ape/03\.png \(empty"
    ) as caught:
        opened(folder, split_seed=1).catalogue  # noqa: B018 - looking is what fails
    assert "data.max_broken" in caught.value.hint
    assert len(opened(folder, max_broken=5).catalogue.inventory.broken) == 5


def test_cached_and_streamed_images_are_the_same(folder: Path) -> None:
    cached, streamed = (opened(folder, cache_gigabytes=most).load("train") for most in (1.0, 0.0))
    assert isinstance(cached.pixels, DecodedOnce)
    assert isinstance(streamed.pixels, DecodedEachTime)
    np.testing.assert_array_equal(cached.batch_NHWC(slice(9)), streamed.batch_NHWC(slice(9)))
    for (x, labels), (y, others) in zip(
        cached.batches(8, CPU).training(0, 0), streamed.batches(8, CPU).training(0, 0), strict=True
    ):
        assert torch.equal(x, y)
        assert torch.equal(labels, others)


def test_a_disk_without_room_for_decoded_images_is_told_of_and_left_as_it_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    seen: list[tuple[int, int]] = []

    def decode(free: int) -> None:
        usage = shutil._ntuple_diskusage(10**12, 10**12 - free, free)  # type: ignore[attr-defined]
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        opened(folder).decode(lambda done, total: seen.append((done, total)), told.append)

    decode(SPARE_BYTES)
    assert "they are decoded each time" in told[0]
    assert isinstance(opened(folder).load("train").pixels, DecodedEachTime)
    assert not list((tmp_path / "cache").rglob("pixels.bin"))
    assert not seen
    decode(2 * SPARE_BYTES)
    assert seen == [(done, 72) for done in range(1, 73)]
    decode(0)  # they are there already
    assert isinstance(opened(folder).load("train").pixels, DecodedOnce)
    assert (len(told), len(seen)) == (1, 72)


def test_an_image_is_shown_as_it_is_and_with_its_label(folder: Path) -> None:
    images = opened(folder, fit="stretch", resolution=40).load("test")
    dataset = opened(folder, fit="stretch", resolution=40)
    number = int(dataset.catalogue.numbers("test")[0])
    path = dataset.catalogue.inventory.images[number].path
    with Image.open(folder / path) as image:
        wanted = np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR, reducing_gap=2.0), np.float32)
    np.testing.assert_allclose(images.batch_NHWC(slice(1))[0], (wanted - 127.5) / 127.5, atol=1e-6)
    assert CLASSES[images.labels[0]] == path.split("/")[0]


def test_a_network_for_grey_images_is_given_grey(folder: Path) -> None:
    assert opened(folder, channels=1).load("test").batch_NHWC(slice(3)).shape == (3, 32, 32, 1)


def test_identity_follows_contents_and_the_split_and_not_the_place(folder: Path) -> None:
    before = opened(folder).identity()
    moved = folder.rename(folder.with_name("elsewhere"))
    assert opened(moved).identity() == before
    assert opened(moved, split_seed=1).identity()["split_sha256"] != before["split_sha256"]
    assert opened(moved, split_seed=1).identity()["dataset_sha256"] == before["dataset_sha256"]
    other = moved.with_name("other")
    moved.rename(other)
    picture(99).save(other / "ape/00.png")
    assert opened(other).identity()["dataset_sha256"] != before["dataset_sha256"]


def test_nothing_is_written_into_the_folder(folder: Path) -> None:
    before = sorted(path for path in folder.rglob("*"))
    for path in [*before, folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    opened(folder).load("train").batch_NHWC(slice(2))
    assert sorted(path for path in folder.rglob("*")) == before
    for path in [*before, folder]:
        path.chmod(0o755)


def test_a_split_that_was_written_down_is_taken_back(folder: Path, tmp_path: Path) -> None:
    dataset = opened(folder, split_seed=7)
    catalogue = dataset.catalogue
    lines = tuple(
        SplitLine(image.path, listed.label, image.sha256 or "", part=catalogue.splitting.parts[image.path])
        for image, listed in zip(catalogue.inventory.images, catalogue.inventory.listing.images, strict=True)
    )
    file = tmp_path / "split.jsonl"
    file.write_bytes(split_bytes(SplitFile(lines, 7, Shares(), shared=True)))
    again = opened(folder, split_seed=0, split_file=str(file))
    assert paths_of(again) == paths_of(dataset)
    assert again.identity() == dataset.identity()
    with pytest.raises(UsageError, match=r"gone\.jsonl does not exist"):
        opened(folder, split_file=str(tmp_path / "gone.jsonl")).identity()


def test_a_given_split_that_leaks_is_told_and_one_without_a_class_in_a_part_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "ape/copy.png").write_bytes((folder / "ape/00.png").read_bytes())
    (folder / "bee/ape.png").write_bytes((folder / "ape/01.png").read_bytes())
    inventory = opened(folder).catalogue.inventory
    parts: dict[str, Part] = {image.path: "train" for image in inventory.images}
    for name in CLASSES:
        parts |= {f"{name}/{number:02d}.png": "choice" for number in range(5)}
        parts |= {f"{name}/{number:02d}.png": "test" for number in range(5, 10)}

    def given_back(name: str) -> ImageFolder:
        lines = tuple(
            SplitLine(image.path, listed.label, image.sha256 or "", part=parts[image.path])
            for image, listed in zip(inventory.images, inventory.listing.images, strict=True)
        )
        (tmp_path / name).write_bytes(split_bytes(SplitFile(lines, 7, Shares(), shared=True)))
        return opened(folder, split_file=str(tmp_path / name))

    leaks = given_back("leaks.jsonl")
    told = " ".join(image_warnings(leaks.catalogue))
    assert "2 sets stand in several parts of data.split_file" in told
    assert leaks.facts().label_conflicts == 1
    parts |= {path: "train" for path, part in parts.items() if path.startswith("bee") and part == "choice"}
    with pytest.raises(UsageError, match="the part architecture has no image of bee"):
        given_back("lacks.jsonl").catalogue  # noqa: B018 - looking is what fails


def in_parts(folder: Path, **parts: range) -> Path:
    """A folder of parts with these images of each class."""
    root = folder.parent / "parts"
    for part, numbers in parts.items():
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
            for number in numbers:
                os.link(folder / name / f"{number:02d}.png", root / part / name / f"{number:02d}.png")
    return root


def test_numbers_of_images_are_those_of_the_parts_that_are_cut(folder: Path) -> None:
    """With a given test part, and in folds, other images than those that are cut do not count."""
    root = in_parts(folder, train=range(12), test=range(12, 24))
    assert opened(root, architecture_images=6, choice_images=6).counts["choice"] == 12
    assert opened(root, architecture_images=0.4, choice_images=0.45).counts["test"] == 36
    folds = opened(folder, architecture_images=6, choice_images=6, folds=4)
    assert (folds.counts["choice"], folds.counts["test"]) == (12, 18)
    assert opened(folder, test_images=30).counts["test"] == 30


def test_a_number_of_test_images_beside_a_given_test_part_is_refused(folder: Path) -> None:
    root = in_parts(folder, train=range(12), test=range(12, 24))
    with pytest.raises(UsageError, match=r"data\.test_images is 0\.5, .* their own \(36 images\)") as caught:
        opened(root, test_images=0.5).catalogue  # noqa: B018 - looking is what fails
    assert "unset" in caught.value.hint
    with pytest.raises(ValueError, match="folds and test_images exclude each other"):
        DataConfig(source="folder", path="x", folds=5, test_images=20)


@pytest.mark.parametrize(
    ("settings", "architecture", "choice"),
    [
        ({}, 18, 18),
        ({"architecture_images": 9}, 9, 27),
        ({"choice_images": 9}, 27, 9),
        ({"architecture_images": 12, "choice_images": 6}, 24, 12),
        ({"architecture_images": 0.2, "choice_images": 0.1}, 24, 12),
    ],
)
def test_given_validation_images_are_cut_in_two_as_asked_for(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Mapping[str, float],
    architecture: int,
    choice: int,
) -> None:
    monkeypatch.setattr("stages.data.splitting.SHARED_BELOW", 10)
    root = in_parts(folder, train=range(8), val=range(8, 20), test=range(20, 24))
    counts = opened(root, **settings).counts
    assert (counts["architecture"], counts["choice"]) == (architecture, choice)


@pytest.mark.parametrize("settings", [{"choice_images": 36}, {"architecture_images": 30, "choice_images": 7}])
def test_more_images_than_are_given_for_validation_are_refused(
    folder: Path, settings: Mapping[str, float]
) -> None:
    root = in_parts(folder, train=range(8), val=range(8, 20), test=range(20, 24))
    with pytest.raises(UsageError, match=r"validation part of their own, of 36 images"):
        opened(root, **settings).catalogue  # noqa: B018 - looking is what fails


def test_parts_that_leave_nothing_to_train_with_are_named_by_their_keys(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"data\.test_images 90: of 72 images .* none would be left"
    ) as caught:
        opened(folder, test_images=90).catalogue  # noqa: B018 - looking is what fails
    assert "number of images" in caught.value.hint


def test_with_validation_images_of_their_own_only_the_test_part_is_cut_off(folder: Path) -> None:
    """Nothing is cut off for choices: 80 % for the test leave 20 % to train with, and not none."""
    root = in_parts(folder, train=range(18), val=range(18, 24))
    counts = opened(root, test_images=0.8).counts
    assert counts["train"] > 0
    with pytest.raises(UsageError, match="none would be left"):
        opened(root, test_images=54).catalogue  # noqa: B018 - looking is what fails


def test_folds_and_a_split_file_exclude_each_other() -> None:
    """Every fold would be the same split."""
    with pytest.raises(ValueError, match="one test part"):
        DataConfig(source="folder", path="x", folds=5, split_file="split.jsonl")


def test_folds_test_every_image_once(folder: Path) -> None:
    tested = [paths_of(opened(folder, folds=4, fold=fold))["test"] for fold in range(4)]
    assert set().union(*tested) == {f"{name}/{n:02d}.png" for name in CLASSES for n in range(EACH)}
    assert sum(map(len, tested)) == 72
    with pytest.raises(ValueError, match="of 4 folds the last is 3"):
        DataConfig(source="folder", path="x", folds=4, fold=4)


def test_fewer_training_images_are_of_all_classes(folder: Path) -> None:
    few = opened(folder, train_images=18).load("train")
    assert np.bincount(few.labels).tolist() == [6, 6, 6]


def test_a_file_that_vanished_since_is_named(folder: Path) -> None:
    dataset = opened(folder, cache_gigabytes=0)
    images = dataset.load("test")
    (folder / dataset.catalogue.inventory.images[int(images.numbers_N[0])].path).unlink()
    with pytest.raises(IntegrityError, match="could be read before"):
        images.batch_NHWC(slice(1))


def test_a_file_that_became_another_one_since_is_named_and_not_shown(folder: Path) -> None:
    dataset = opened(folder, cache_gigabytes=0)
    images = dataset.load("test")
    key = dataset.catalogue.splitting.keys("test")[0]
    picture(1_000).save(folder / key)
    with pytest.raises(IntegrityError, match=f"{Path(key).name}.* has changed since"):
        images.batch_NHWC(np.arange(len(images)))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    dataset = opened(tmp_path / "nowhere")
    assert not dataset.is_at_hand()
    with pytest.raises(DatasetMissingError, match="nowhere"):
        dataset.check_folder("train")


def test_a_second_look_reads_no_image(folder: Path) -> None:
    config = DataConfig(source="folder", path=str(folder))
    old = 1_600_000_000
    for path in folder.rglob("*.png"):
        os.utime(path, (old, old))
    first = catalogue_of(config)
    assert first.inventory.read == 72
    again = catalogue_of(config.model_copy(update={"workers": 1}))  # as in another process
    assert again.inventory.read == 0
    assert again.inventory.images == first.inventory.images


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "I;16"])
def test_images_of_every_mode_become_colour(folder: Path, mode: str) -> None:
    image = picture(5)
    odd = (
        Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80))
        if mode == "I;16"
        else image.convert(mode)
    )
    buffer = io.BytesIO()
    odd.save(buffer, "PNG")
    (folder / "cat/odd.png").write_bytes(buffer.getvalue())
    dataset = opened(folder)
    assert not dataset.catalogue.inventory.broken
    for part in PARTS:
        assert dataset.load(part).batch_NHWC(slice(None)).shape[1:] == (32, 32, 3)
