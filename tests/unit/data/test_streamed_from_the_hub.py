"""A large data set that stays on the hub, of which a server on the loopback address is a picture."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.loopback_hub import loopback_hub

from nasflow.base.errors import DatasetMissingError
from stages.data.inventory_cache import FileState
from stages.data.shards import Shard
from stages.data.spans import BYTES, Spans
from stages.data.spool import Spool
from stages.data.streamed import StreamedBytes

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGES = 40
IMAGE_BYTES = 100_000
ROOT = Path(__file__).parents[3]
READ = """
import hashlib, json, sys
from stages.data.config import DataConfig
from stages.data.hub import open_hub
listing, source = open_hub(DataConfig(source="hub", name="someone/animals", cache_gigabytes=0))
read = {n: hashlib.sha256(source.read(n)).hexdigest() for n in map(int, sys.argv[1:])}
json.dump([type(source).__name__, [image.label for image in listing.images], read], sys.stdout)
"""


def content(number: int) -> bytes:
    return np.random.default_rng(number).bytes(IMAGE_BYTES)


def parquet(folder: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])})
    rows = [{"bytes": content(n), "path": None} for n in range(IMAGES)]
    table = pa.table({"image": rows, "label": [n % 2 for n in range(IMAGES)]}, schema=features.arrow_schema)
    pq.write_table(table, folder / "train-00000-of-00001.parquet", row_group_size=4)


def tar(folder: Path) -> None:
    with tarfile.open(folder / "train-0.tar", "w") as archive:
        for n in range(IMAGES):
            for suffix, member in (("png", content(n)), ("cls", str(n % 2).encode())):
                entry = tarfile.TarInfo(f"{n:03d}.{suffix}")
                entry.size = len(member)
                archive.addfile(entry, io.BytesIO(member))


@pytest.mark.parametrize("write", [parquet, tar])
def test_images_are_read_from_the_hub_by_parts_of_its_files(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    (tmp_path / "files").mkdir()
    write(tmp_path / "files")
    with loopback_hub("someone/animals", tmp_path / "files") as hub:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", READ, "0", "5", "39"],
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kind, labels, read = json.loads(done.stdout)
    names = ("b", "a") if write is parquet else ("0", "1")
    assert kind == "StreamedBytes"
    assert labels == [names[n % 2] for n in range(IMAGES)]
    assert read == {str(n): hashlib.sha256(content(n)).hexdigest() for n in (0, 5, 39)}
    copied = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent.name not in ("files", "hub_units")]
    assert sum(path.stat().st_size for path in copied) < IMAGE_BYTES
    if write is parquet:
        kept = [path.stat().st_size for path in tmp_path.rglob("*.unit")]
        assert len(kept) == 3
        assert max(kept) < 5 * IMAGE_BYTES


def test_a_file_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    one = np.zeros(1, np.int64)
    spans = Spans(np.array([[0, BYTES, 0, 10]]), one, one, one + 10, one, ("a",), {"train": 1})
    shard = Shard("http://127.0.0.1:9/animals/train-0.tar", FileState(10, 1, 0, 0))
    source = StreamedBytes(Path("/hub/x"), (shard,), spans, "png", Spool(tmp_path), "key")
    with pytest.raises(DatasetMissingError, match=r"train-0\.tar cannot be read from the hub"):
        source.read(0)
    assert not list(tmp_path.glob("*.unit"))
