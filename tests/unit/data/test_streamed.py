"""Large data sets of the hub, read from their Parquet and tar files without a copy."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.photo_folder import contents, mosaic

from nasflow.base.errors import DatasetMissingError, IntegrityError, UsageError
from stages.data import catalogue, streamed
from stages.data.config import SizedData, open_dataset
from stages.data.hub import HubImages
from stages.data.spool import Spool
from stages.data.storage_units import StorageUnits
from stages.data.streamed import StreamedBytes

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGES = 60
GROUP_ROWS = 7
TINY_WINDOW_BYTES = 8_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "_KNOWN", {})
    datasets.disable_progress_bars()


@cache
def png(seed: int) -> bytes:
    file = io.BytesIO()
    mosaic(seed).save(file, "PNG")
    return file.getvalue()


def parquet(folder: Path, rows: Sequence[bytes | None], shards: int = 2, **options: Any) -> Path:
    """Images of two classes in turn, in files with row groups of 7."""
    folder.mkdir(parents=True, exist_ok=True)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["bee", "ape"])}
    )
    for shard in range(shards):
        numbers = range(len(rows))[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]
        columns = {
            "image": [None if rows[n] is None else {"bytes": rows[n], "path": f"{n}.png"} for n in numbers],
            "label": [n % 2 for n in numbers],
        }
        table = pa.table(columns, schema=features.arrow_schema)
        name = folder / f"train-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(table, name, **{"row_group_size": GROUP_ROWS, **options})
    return folder


def plain(folder: Path) -> Path:
    """As ``datasets`` writes it."""
    return parquet(folder, [png(n) for n in range(IMAGES)], compression="none", use_dictionary=["label"])


def with_dictionary(folder: Path) -> Path:
    return parquet(folder, [png(n) for n in range(IMAGES)], compression="none")


def snappy(folder: Path) -> Path:
    return parquet(folder, [png(n) for n in range(IMAGES)], compression="snappy")


def tars(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as archive:
            for n in range(IMAGES * shard // 2, IMAGES * (shard + 1) // 2):
                for suffix, content in (("cls", str(n % 2).encode()), ("png", png(n))):
                    add(archive, f"{n:04d}.{suffix}", content)
    return folder


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


WRITERS = [plain, with_dictionary, snappy, tars]


def opened(folder: Path, **settings: object) -> HubImages:
    config = SizedData.model_validate(
        {
            "source": "hub",
            "name": folder.name,
            "path": str(folder),
            "resolution": 32,
            "cache_gigabytes": 0,
            "workers": 0,
            **settings,
        }
    )
    dataset = open_dataset(config)
    assert isinstance(dataset, HubImages)
    return dataset


def source_of(dataset: HubImages) -> StreamedBytes:
    source = dataset.catalogue.inventory.content
    assert isinstance(source, StreamedBytes)
    return source


@pytest.mark.parametrize("write", WRITERS)
def test_images_labels_parts_and_identity_are_those_of_the_copied_tables(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path / "animals")
    before = contents(folder)
    in_place, copied = opened(folder), opened(folder, cache_gigabytes=20)
    assert in_place.class_names == copied.class_names
    source, tables = source_of(in_place), copied.catalogue.inventory.content
    assert not isinstance(tables, StreamedBytes)
    assert in_place.catalogue.inventory.listing == copied.catalogue.inventory.listing
    assert [source.read(n) for n in range(IMAGES)] == [tables.read(n) for n in range(IMAGES)]
    assert in_place.catalogue.splitting == copied.catalogue.splitting
    assert {**in_place.identity(), **copied.identity()} == in_place.identity()
    assert ("order" in in_place.identity()) == (write is snappy)
    first, second = in_place.load("train"), copied.load("train")
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.batch_NHWC(slice(0, 5)), second.batch_NHWC(slice(0, 5)))
    assert contents(folder) == before


@pytest.mark.parametrize("write", [plain, tars])
def test_nothing_is_copied_of_files_whose_images_can_be_reached(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    dataset = opened(write(tmp_path / "animals"))
    source = source_of(dataset)
    assert source.units() is None
    assert sum(1 for _ in dataset.load("train").batches(8, torch.device("cpu")).training(1, 0))
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    assert not list((tmp_path / "cache").rglob("*.unit"))
    assert source.state(3) is not None
    assert source.state(3).size == len(png(3))  # type: ignore[union-attr]


def test_a_spool_of_compressed_row_groups_never_takes_more_than_it_may(tmp_path: Path) -> None:
    source = source_of(opened(snappy(tmp_path / "animals")))
    limited = StreamedBytes(
        source.place, source.shards, source.spans, source.column,
        Spool(tmp_path / "spool", most_bytes=8_000), source.key,
    )  # fmt: skip
    units = source.units()
    assert units is not None
    assert units.bytes_U.max() < 8_000 < units.bytes_U.sum()
    for number in np.random.default_rng(0).permutation(IMAGES):
        assert limited.read(int(number)) == png(int(number))
        kept = sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.unit"))
        assert kept <= 8_000


def test_an_unfinished_unit_of_another_process_is_left_alone_and_an_abandoned_one_removed(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, most_bytes=10)
    young, old = tmp_path / "tmpyoung.new", tmp_path / "tmpold.new"
    for path in (young, old):
        path.write_bytes(bytes(100))
    os.utime(old, (0, 0))
    with spool.open("one", lambda: [b"12345678"]) as unit:
        assert unit.read() == b"12345678"
    assert young.exists()
    assert not old.exists()
    assert [path.name for path in tmp_path.glob("*.unit")] == ["one.unit"]


def test_an_order_in_windows_opens_each_unit_once_a_window() -> None:
    random = np.random.default_rng(3)
    units = StorageUnits(np.repeat(np.arange(50), 20), np.full(50, 1000))
    shuffled_N = random.permutation(1000)
    order_N = shuffled_N[units.in_windows(shuffled_N, random, window_bytes=5000)]
    assert sorted(order_N) == list(range(1000))
    of_windows = [set(units.unit_N[order_N[start : start + 80]].tolist()) for start in range(0, 1000, 100)]
    assert all(len(found) <= 6 for found in of_windows)
    runs = 1 + int(np.count_nonzero(np.diff(units.unit_N[order_N])))
    assert runs > 600  # shuffled inside
    together_N = units.in_windows(shuffled_N, random, window_bytes=50_000)
    assert np.array_equal(together_N, np.arange(1000))  # as if there were no units


@given(
    units=st.lists(st.integers(0, 9), min_size=1, max_size=200),
    sizes=st.lists(st.integers(1, 500), min_size=10, max_size=10),
    window=st.integers(1, 6000),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_every_order_in_windows_is_a_permutation_fixed_by_its_seed(
    units: list[int], sizes: list[int], window: int, seed: int
) -> None:
    stored = StorageUnits(np.array(units), np.array(sizes))
    numbers_N = np.random.default_rng(seed).permutation(len(units))
    orders = [
        stored.in_windows(numbers_N, np.random.default_rng(seed), window_bytes=window) for _ in range(2)
    ]
    assert sorted(orders[0]) == list(range(len(units)))
    assert np.array_equal(orders[0], orders[1])


def test_training_in_windows_is_resumed_bit_for_bit_with_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StorageUnits.in_windows, "__defaults__", (TINY_WINDOW_BYTES,))
    folder = snappy(tmp_path / "animals")
    alone = opened(folder).load("train").batches(8, torch.device("cpu"))
    assert alone.units is not None
    assert alone.units.bytes_U.sum() > TINY_WINDOW_BYTES
    whole = list(alone.training(5, 1))
    rest = list(alone.training(5, 1, first=2))
    workers = opened(folder, workers=2).load("train").batches(8, torch.device("cpu"))
    for expected, resumed in zip(whole[2:], rest, strict=True):
        assert torch.equal(expected[0], resumed[0])
        assert torch.equal(expected[1], resumed[1])
    for expected, other in zip(whole, workers.training(5, 1), strict=True):
        assert torch.equal(expected[0], other[0])


def test_files_that_can_be_reached_are_shown_in_the_order_of_copied_ones(tmp_path: Path) -> None:
    folder = plain(tmp_path / "animals")
    batches = [
        list(
            opened(folder, cache_gigabytes=limit).load("train").batches(8, torch.device("cpu")).training(2, 0)
        )
        for limit in (0, 20)
    ]
    for (x_NCHW, labels_N), (other_NCHW, other_N) in zip(*batches, strict=True):
        assert torch.equal(x_NCHW, other_NCHW)
        assert torch.equal(labels_N, other_N)


def test_a_second_start_reads_neither_images_nor_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tars(tmp_path / "animals")
    for shard in folder.iterdir():
        os.utime(shard, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    first = opened(folder).identity()
    monkeypatch.setattr(catalogue, "_KNOWN", {})
    monkeypatch.setattr(streamed, "_indexed", None)
    again = opened(folder)
    assert again.identity() == first
    assert again.catalogue.inventory.read == 0


def test_a_damaged_index_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plain(tmp_path / "animals")
    first = opened(folder).identity()
    (index,) = (tmp_path / "cache").rglob("hub_index/*.npz")
    index.write_bytes(index.read_bytes()[:-100])
    monkeypatch.setattr(catalogue, "_KNOWN", {})
    assert opened(folder).identity() == first


def test_the_places_go_to_worker_processes(tmp_path: Path) -> None:
    source = source_of(opened(snappy(tmp_path / "animals")))
    assert pickle.loads(pickle.dumps(source)).read(7) == png(7)


def test_an_image_that_a_dictionary_holds_once_is_read_at_both_places(tmp_path: Path) -> None:
    rows = [png(n % 30) for n in range(IMAGES)]
    rows[3] = rows[1]
    folder = parquet(tmp_path / "animals", rows, compression="none")
    source = source_of(opened(folder))
    assert [source.read(n) for n in range(IMAGES)] == rows
    assert source.units() is not None


@pytest.mark.parametrize("options", [{"compression": "none", "use_dictionary": ["label"]}, {}])
def test_an_absent_image_and_one_that_is_none_are_broken(tmp_path: Path, options: Mapping[str, Any]) -> None:
    rows = [None, b"no image", *(png(n) for n in range(40))]
    dataset = opened(parquet(tmp_path / "animals", rows, **options), max_broken=2)
    assert [image.broken for image in dataset.catalogue.inventory.broken] == ["empty", "not_an_image"]


def described(folder: Path) -> Path:
    """A folder whose card says that the column image, whatever its type, holds images."""
    folder.mkdir()
    lines = [
        "---", "dataset_info:", "  features:", "  - name: image", "    dtype: image", "  - name: label",
        "    dtype: string", "---",
    ]  # fmt: skip
    (folder / "README.md").write_text("\n".join(lines))
    return folder


def test_a_plain_binary_column_is_read(tmp_path: Path) -> None:
    folder = described(tmp_path / "animals")
    columns = {"image": [png(n) for n in range(IMAGES)], "label": ["x", "y"] * (IMAGES // 2)}
    pq.write_table(pa.table(columns), folder / "train.parquet", compression="zstd")
    source = source_of(opened(folder))
    assert [source.read(n) for n in (0, 59)] == [png(0), png(59)]


def test_images_that_the_file_only_names_are_copied_as_before(tmp_path: Path) -> None:
    folder = described(tmp_path / "animals")
    for n in range(IMAGES):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    columns = {
        "image": [str(tmp_path / f"{n}.png") for n in range(IMAGES)],
        "label": ["x", "y"] * (IMAGES // 2),
    }
    pq.write_table(pa.table(columns), folder / "train.parquet")
    content = opened(folder).catalogue.inventory.content
    assert not isinstance(content, StreamedBytes)
    assert content.read(3) == png(3)


def test_row_groups_that_are_too_large_are_copied_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "WINDOW_BYTES", 2_000)
    content = opened(snappy(tmp_path / "animals")).catalogue.inventory.content
    assert not isinstance(content, StreamedBytes)


def test_a_row_group_that_does_not_decompress_breaks_its_images_alone(tmp_path: Path) -> None:
    folder = snappy(tmp_path / "animals")
    shard = folder / "train-00000-of-00002.parquet"
    chunk = pq.ParquetFile(shard).metadata.row_group(2).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    damage(shard, start + 60, bytes(range(256)) * 8)
    dataset = opened(folder, max_broken=GROUP_ROWS)
    broken = dataset.catalogue.inventory.broken
    assert [image.path for image in broken] == [f"train/{n}" for n in range(14, 21)]
    assert {image.broken for image in broken} == {"corrupt"}
    assert "row group 2 of train-00000-of-00002.parquet" in broken[0].detail
    with pytest.raises(UsageError, match="7 of 60 images cannot be read"):
        opened(folder).look()


def damage(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_bytes_that_are_damaged_in_place_break_one_image(tmp_path: Path) -> None:
    folder = tars(tmp_path / "animals")
    source = source_of(opened(folder))
    at = int(source.spans.start_N[5])
    damage(folder / "train-0.tar", at, b"\0" * 64)
    catalogue._KNOWN.clear()
    broken = opened(folder, max_broken=1).catalogue.inventory.broken
    assert [(image.path, image.broken) for image in broken] == [("train/05", "not_an_image")]


@pytest.mark.parametrize("cut", ["member", "head", "end"])
def test_a_tar_file_that_is_cut_off_is_named(tmp_path: Path, cut: str) -> None:
    folder = tars(tmp_path / "animals")
    source = source_of(opened(folder))
    shard = folder / "train-1.tar"
    start, size = int(source.spans.start_N[50]), int(source.spans.size_N[50])
    block = -(-(start + size) // 512) * 512
    os.truncate(shard, {"member": start + size // 2, "head": block + 100, "end": block}[cut])
    catalogue._KNOWN.clear()
    with pytest.raises(UsageError, match=r"train-1\.tar is cut off") as caught:
        opened(folder).look()
    assert "Fetch it again" in caught.value.hint


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("1.png", b"p"), ("1.png", b"p"), ("1.cls", b"0")], "holds 1.png twice"),
        ([("1.png", b"p"), ("1.cls", b"one")], "1.cls holds no label"),
        ([("1.png", b"p")], "image 60 has no label"),
    ],
)
def test_a_tar_file_with_odd_members_is_named(
    tmp_path: Path, members: Sequence[tuple[str, bytes]], what: str
) -> None:
    folder = tars(tmp_path / "animals")
    with tarfile.open(folder / "train-2.tar", "w") as archive:
        for name, content in members:
            add(archive, name, content)
    with pytest.raises(UsageError) as caught:
        opened(folder).look()
    assert what in caught.value.message


def test_a_compressed_tar_file_is_named(tmp_path: Path) -> None:
    folder = tars(tmp_path / "animals")
    with tarfile.open(folder / "train-2.tar", "w:gz") as archive:
        add(archive, "1.png", png(1))
    with pytest.raises(UsageError, match=r"train-2\.tar") as caught:
        opened(folder).look()
    assert "unpacked" in caught.value.hint


@pytest.mark.parametrize("gigabytes", [0, 20])
def test_files_that_are_missing_from_a_numbered_set_are_named(tmp_path: Path, gigabytes: int) -> None:
    folder = parquet(tmp_path / "animals", [png(n) for n in range(IMAGES)], shards=4)
    (folder / "train-00002-of-00004.parquet").unlink()
    with pytest.raises(UsageError) as caught:
        opened(folder, cache_gigabytes=gigabytes).look()
    assert "1 of 4 files are missing: train-00002-of-00004" in caught.value.message


def test_a_parquet_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    folder = plain(tmp_path / "animals")
    shard = folder / "train-00001-of-00002.parquet"
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(UsageError) as caught:
        opened(folder).look()
    assert "train-00001-of-00002.parquet cannot be read" in caught.value.message


def test_a_file_without_the_column_is_named(tmp_path: Path) -> None:
    folder = plain(tmp_path / "animals")
    pq.write_table(pa.table({"text": ["a"]}), folder / "train-more.parquet")
    with pytest.raises(UsageError) as caught:
        opened(folder).look()
    assert "train-more.parquet lacks the column image or label" in caught.value.message


def test_a_file_that_disappears_in_training_is_an_error_that_names_the_image(tmp_path: Path) -> None:
    folder = plain(tmp_path / "animals")
    photos = opened(folder).load("train")
    (folder / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"train-00000-of-00002\.parquet") as caught:
        photos.batch_NHWC(slice(0, 1))
    assert "train/" in caught.value.message


def test_offline_files_on_this_computer_are_at_hand(tmp_path: Path) -> None:
    assert opened(plain(tmp_path / "animals")).is_at_hand()
    with pytest.raises(DatasetMissingError):
        opened(tmp_path / "nothing").check_at_hand()
