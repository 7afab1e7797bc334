"""Data sets of the hub, from Parquet and WebDataset files on this computer."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.photo_folder import contents, mosaic

from nasflow.assemble import resolve_data
from nasflow.base.errors import DatasetMissingError, MachineError, UsageError
from stages.data import catalogue, hub, hub_builder
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.data.dataset import PARTS
from stages.data.image_file import BrokenImageError

datasets = pytest.importorskip("datasets")

LONG_AGO_NS = 1_600_000_000_123_456_789


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def png(seed: int) -> bytes:
    file = io.BytesIO()
    mosaic(seed).save(file, "PNG")
    return file.getvalue()


def parquet(folder: Path, splits: Mapping[str, int], names: tuple[str, ...] = ("bee", "ape")) -> Path:
    """Images of ``names`` in turn; the columns are called as many data sets have them."""
    folder.mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    seed = 0
    for split, count in splits.items():
        rows = [{"bytes": png(seed + row), "path": None} for row in range(count)]
        seed += count
        columns = {"image": rows, "label": [row % len(names) for row in range(count)]}
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def opened(folder: Path, **settings: object) -> hub.HubImages:
    config = SizedData.model_validate(
        {"source": "hub", "name": folder.name, "path": str(folder), "resolution": 32, **settings}
    )
    dataset = open_dataset(config)
    assert isinstance(dataset, hub.HubImages)
    return dataset


def test_parquet_is_split_as_a_folder_is(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "animals", {"train": 60})
    before = contents(folder)
    dataset = opened(folder)
    assert dataset.class_names == ("ape", "bee")
    assert sum(dataset.counts[part] for part in ("train", "choice", "test")) == 60
    assert dataset.natural_resolution == 60
    train = dataset.load("train")
    assert train.batch_NHWC(slice(0, 3)).shape == (3, 32, 32, 3)
    known = dataset.catalogue
    listed = [known.inventory.listing.images[n].label for n in known.numbers("train")]
    assert [dataset.class_names[label] for label in train.labels] == listed
    assert contents(folder) == before


def test_an_image_has_the_label_and_the_pixels_of_its_row(tmp_path: Path) -> None:
    dataset = opened(parquet(tmp_path / "animals", {"test": 20, "train": 40}), cache_gigabytes=0)
    inventory = dataset.catalogue.inventory
    for number in (0, 19, 20, 59):
        listed = inventory.listing.images[number]
        split, row = listed.path.split("/")
        seed = int(row) + (0 if split == "test" else 20)
        assert listed.label == ("bee", "ape")[int(row) % 2]
        assert inventory.content.read(number) == png(seed)


def test_named_splits_become_parts(tmp_path: Path) -> None:
    dataset = opened(parquet(tmp_path / "animals", {"train": 40, "validation": 20, "test": 20}))
    paths = {part: dataset.catalogue.splitting.keys(part) for part in PARTS}
    assert len(paths["test"]) == 20
    assert {path.split("/")[0] for path in paths["test"]} == {"test"}
    assert {path.split("/")[0] for path in paths["choice"]} == {"validation"}
    assert {path.split("/")[0] for path in paths["train"]} == {"train"}


def test_copies_over_two_splits_are_found(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "animals", {"train": 40, "test": 20})
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["bee", "ape"])}
    )
    rows = {"image": [{"bytes": png(row), "path": None} for row in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")
    dataset = opened(folder)
    assert len(dataset.catalogue.splitting.keys("test")) == 20
    assert dataset.catalogue.left_out() == {"exact-copy": 20}


def test_webdataset_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "train-0000.tar", "w") as archive:
        for row in range(40):
            for suffix, content in (("png", png(row)), ("cls", str(row % 2).encode())):
                entry = tarfile.TarInfo(f"{row:04d}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    dataset = opened(folder)
    assert dataset.class_names == ("0", "1")
    assert dataset.counts["train"] > 10
    assert len(np.unique(dataset.load("test").labels)) == 2


def test_a_second_look_reads_no_image_and_other_files_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet(tmp_path / "animals", {"train": 40})
    opened(folder).identity()
    tables = list((tmp_path / "cache").rglob("*.arrow"))
    assert tables
    for table in tables:
        os.utime(table, ns=(LONG_AGO_NS, LONG_AGO_NS))  # one that is milliseconds old would be read again
    monkeypatch.setattr(catalogue, "_KNOWN", {})
    first = opened(folder).identity()
    monkeypatch.setattr(catalogue, "_KNOWN", {})
    again = opened(folder)
    assert again.identity() == first
    assert again.catalogue.inventory.read == 0
    (folder / "train-00000-of-00001.parquet").unlink()
    folder.rmdir()
    parquet(folder, {"train": 44})
    monkeypatch.setattr(catalogue, "_KNOWN", {})
    assert opened(folder).identity() != first


def test_the_files_go_to_worker_processes(tmp_path: Path) -> None:
    source = opened(parquet(tmp_path / "animals", {"train": 40})).catalogue.inventory.content
    assert pickle.loads(pickle.dumps(source)).read(7) == png(7)


def test_an_image_that_is_none_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "animals"
    folder.mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    pictures = [{"bytes": png(row), "path": None} for row in range(40)]
    rows = {"image": [None, {"bytes": b"no image", "path": None}, *pictures[2:]], "label": [0, 1] * 20}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    dataset = opened(folder, max_broken=2)
    assert [image.broken for image in dataset.catalogue.inventory.broken] == ["empty", "not_an_image"]
    with pytest.raises(BrokenImageError):
        dataset.catalogue.inventory.content.read(0)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"text": ["a"] * 8, "label": ["x", "y"] * 4}, "0 columns of images"),
        ({"image": [png(n) for n in range(8)], "caption": ["x", "y"] * 4}, "no column of labels"),
        ({"image": [png(n) for n in range(8)], "label": ["x", None] * 4}, "has no label"),
    ],
)
def test_what_lacks_images_or_labels_is_named(
    tmp_path: Path, columns: Mapping[str, object], what: str
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    table = datasets.Dataset.from_dict(
        {name: [{"bytes": v, "path": None} if isinstance(v, bytes) else v for v in values]
         for name, values in columns.items()}
    )  # fmt: skip
    if "image" in columns:
        table = table.cast_column("image", datasets.Image())
    table.to_parquet(folder / "train-00000-of-00001.parquet")
    with pytest.raises(UsageError) as caught:
        opened(folder).look()
    assert what in caught.value.message


def test_what_is_not_there_is_said_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    dataset = open_dataset(DataConfig(source="hub", name="nobody/nothing"))
    assert dataset.is_at_hand() is False
    with pytest.raises(DatasetMissingError) as caught:
        dataset.check_at_hand()
    assert "nobody/nothing" in caught.value.message
    assert "data.name" in caught.value.hint


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_builder, "find_spec", lambda _name: None)
    with pytest.raises(MachineError, match="datasets") as caught:
        open_dataset(DataConfig(source="hub", name="beans")).class_names  # noqa: B018
    assert "nasflow[hub]" in caught.value.hint


def test_a_name_that_is_a_folder_is_found_beside_the_configuration(tmp_path: Path) -> None:
    parquet(tmp_path / "animals", {"train": 40})
    data = resolve_data(DataConfig(source="hub", name="animals"), tmp_path)
    assert (data.name, data.path) == ("animals", str(tmp_path / "animals"))
    assert open_dataset(data).class_names == ("ape", "bee")
    assert resolve_data(DataConfig(source="hub", name="beans"), tmp_path).path is None
