"""Data sets of the hub: memory, disk and speed where their files lie, against copying them into Arrow tables.

Ways: ``parquet`` (images not compressed, as ``datasets`` writes them), ``snappy`` (compressed row groups of
100), ``tar`` (WebDataset), each in place, and ``copied``: the first as Arrow tables.

Memory and disk: one process opens the set, hashes and decodes every image (the inventory), and reads all of
them in the order of an epoch; 64x48 pixels, 2,000 and 20,000 images. Row groups pass windows of 4 MB and a
spool of 16 MB, so that 20,000 small images are as large a set for them as 5 million are for the usual ones.

Speed: JPEGs of 500x375 pixels as a network of 224 pixels is shown them, one core, all ways in turn.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from benchmarks._report import Outcome, at_least, at_most, main, say
from stages.data.catalogue import inventory_of
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.data.decoded import DecodedEachTime
from stages.data.decoder import Decoder
from stages.data.hub import open_hub
from stages.data.inventory import take_inventory
from stages.data.photos import Photos
from stages.data.spool import Spool
from stages.data.streamed import StreamedBytes

WAYS = ("parquet", "snappy", "tar", "copied")
SHARDS = 4
WINDOW_BYTES, SPOOL_BYTES = 4_000_000, 16_000_000
RESOLUTION, BATCH_SIZE = 224, 64
DISTINCT = 500


def jpegs(count: int, size: tuple[int, int]) -> Iterator[bytes]:
    """Smooth random pictures with some noise, quality 90; no two files are equal."""
    random = np.random.default_rng(0)
    kept: list[bytes] = []
    for number in range(count):
        if number < DISTINCT:
            coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
            picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(int)
            noisy = np.clip(picture + random.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(noisy).save(file, "JPEG", quality=90)
            kept.append(file.getvalue())
        yield kept[number % DISTINCT] + number.to_bytes(4, "big")


def write(way: str, folder: Path, count: int, size: tuple[int, int]) -> int:
    """The files of a data set of two classes; what they take, in bytes."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    datasets.disable_progress_bars()
    folder.mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    images = jpegs(count, size)
    for shard in range(SHARDS):
        labels = [number % 2 for number in range(count // SHARDS)]
        rows = [{"bytes": next(images), "path": None} for _ in labels]
        name = f"train-{shard:05d}-of-{SHARDS:05d}"
        if way == "tar":
            with tarfile.open(folder / f"{name}.tar", "w") as archive:
                for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
                    for suffix, content in (("jpg", row["bytes"] or b""), ("cls", str(label).encode())):
                        entry = tarfile.TarInfo(f"{shard}-{number:07d}.{suffix}")
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))
        elif way == "snappy":
            table = pa.table({"image": rows, "label": labels}, schema=features.arrow_schema)
            pq.write_table(table, folder / f"{name}.parquet", row_group_size=100)
        else:
            table = datasets.Dataset.from_dict({"image": rows, "label": labels}, features=features)
            table.to_parquet(folder / f"{name}.parquet")
    return sum(path.stat().st_size for path in folder.iterdir())


def config_of(way: str, folder: Path) -> DataConfig:
    """In place, or copied."""
    limit = 1000.0 if way == "copied" else 0.0
    return DataConfig(source="hub", name="images", path=str(folder), cache_gigabytes=limit, copies="ignore")


def read_all(way: str, folder: Path) -> dict[str, float]:
    """What the process of :func:`costs` does."""
    started = time.monotonic()
    listing, source = open_hub(config_of(way, folder))
    opened = time.monotonic()
    if isinstance(source, StreamedBytes):
        source = replace(source, spool=Spool(source.spool.folder, SPOOL_BYTES))
    source.read(0)
    first = time.monotonic()
    take_inventory(listing, source=source)
    random = np.random.default_rng(0)
    order_N = random.permutation(len(listing.images))
    if (units := source.units()) is not None:
        order_N = order_N[units.in_windows(order_N, random, WINDOW_BYTES)]
    before = time.monotonic()
    for number in order_N:
        source.read(int(number))
    after = time.monotonic()
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "seconds_to_open": opened - started,
        "seconds_to_first_image": first - started,
        "files_per_second": len(order_N) / (after - before),
        "peak_megabytes": int(words["VmHWM"].split()[0]) / 1024,
        "own_megabytes": int(words["RssAnon"].split()[0]) / 1024,
    }


def costs(way: str, count: int) -> dict[str, float]:
    """Memory and disk of one data set, in a process with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        files_bytes = write(way, Path(folder, "files"), count, (64, 48))
        program = (
            "import json, sys; from pathlib import Path; from benchmarks.hub_reading import read_all; "
            "print(json.dumps(read_all(sys.argv[1], Path(sys.argv[2]))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, way, f"{folder}/files"],
            env={
                **os.environ,
                "XDG_CACHE_HOME": f"{folder}/cache",
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "HF_HUB_OFFLINE": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        kept = [path for path in Path(folder, "cache").rglob("*") if path.is_file()]
        images = [path for path in kept if path.parent.name != "inventory"]  # that is of any source
        found: dict[str, float] = json.loads(done.stdout)
        found["files_megabytes"] = files_bytes / 1e6
        found["cache_megabytes"] = sum(path.stat().st_size for path in images) / 1e6
    say(f"{way}, {count} images: { {name: round(value, 2) for name, value in found.items()} }")
    return found


def speeds(count: int, rounds: int) -> dict[str, float]:
    """Images a second of one core, decoded and varied, and their ratios to the copied tables'."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        batches = {}
        for way in WAYS:
            files = Path(folder, way)
            write(way, files, count, (500, 375))
            config = config_of(way, files)
            inventory = inventory_of(config)
            sized = SizedData.model_validate(
                {**config.model_dump(), "path": str(files), "resolution": RESOLUTION, "workers": 0}
            )
            dataset = open_dataset(sized.model_copy(update={"cache_gigabytes": config.cache_gigabytes}))
            decode = Decoder.of(inventory, RESOLUTION, 3)  # each time, also where it could be decoded once
            photos = dataset.load("train")
            assert isinstance(photos, Photos)
            photos = replace(photos, pixels=DecodedEachTime(decode, count))
            batches[way] = photos.batches(BATCH_SIZE, torch.device("cpu"))
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for epoch in range(rounds + 1):
            for way in WAYS:
                started = time.process_time()
                shown = sum(len(labels) for _, labels in batches[way].training(0, epoch))
                taken[way].append((time.process_time() - started) / shown)
        figures = {f"{way}_images_per_second": 1 / median(values[1:]) for way, values in taken.items()}
        for way in WAYS[:3]:
            ratios = [a / b for a, b in zip(taken["copied"][1:], taken[way][1:], strict=True)]
            figures[f"{way}_over_copied"] = median(ratios)
    say(f"images a second: {figures}")
    return figures


def run(full: bool) -> Outcome:
    """Measure both."""
    few, many = (2_000, 20_000) if full else (500, 5_000)
    found = {way: {count: costs(way, count) for count in (few, many)} for way in WAYS}
    speed = speeds(640 if full else 320, 5 if full else 3)
    growth = {way: found[way][many]["peak_megabytes"] / found[way][few]["peak_megabytes"] for way in WAYS}
    share = {way: found[way][many]["cache_megabytes"] / found[way][many]["files_megabytes"] for way in WAYS}
    spool = found["snappy"][many]["cache_megabytes"] * 1e6 / SPOOL_BYTES
    return Outcome(
        figures={
            "few_images": few,
            "many_images": many,
            "few": {way: found[way][few] for way in WAYS},
            "many": {way: found[way][many] for way in WAYS},
            "many_over_few_megabytes": growth,
            "cache_over_files": share,
            **speed,
        },
        bars=[
            *(at_most(f"{way}_many_over_few_megabytes", growth[way], 1.1) for way in WAYS[:3]),
            *(at_most(f"{way}_cache_over_files", share[way], 0.05) for way in ("parquet", "tar")),
            at_most("snappy_cache_over_spool", spool, 1.1),
            *(at_least(f"{way}_over_copied", speed[f"{way}_over_copied"], 0.9) for way in WAYS[:3]),
        ],
    )


if __name__ == "__main__":
    sys.exit(main("hub_reading", run))
