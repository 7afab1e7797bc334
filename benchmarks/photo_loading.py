"""Photos: how fast they come.

JPEGs of 500x375 pixels, as a network of 224 pixels is shown them in training (preset light: random crop,
mirroring, colour), on one core, against Pillow decoding and resizing the same files to 224x224 and nothing
else; both in turn. ``streamed`` decodes each time, ``cached`` reads what was decoded once.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from benchmarks._report import Outcome, at_least, main, say
from stages.data.config import SizedData, open_dataset

RESOLUTION, BATCH_SIZE = 224, 64


def write_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Smooth random pictures with some noise, two classes, JPEG of quality 90."""
    random = np.random.default_rng(0)
    for number in range(count):
        name = folder / ("ab"[number % 2])
        name.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
        picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(picture + random.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(name / f"{number}.jpg", quality=90)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def pillow(paths: Iterable[Path]) -> None:
    """Decode and resize, one after another."""
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB").resize((RESOLUTION, RESOLUTION), Image.Resampling.BILINEAR)


def loading(count: int, rounds: int, say_it: Callable[[str], None] = say) -> dict[str, float]:
    """Images a second of one core, and their ratios."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        write_photos(Path(folder, "photos"), count, (500, 375))
        settings = {"source": "folder", "path": f"{folder}/photos", "resolution": RESOLUTION, "workers": 0}
        datasets = {
            kind: open_dataset(SizedData.model_validate({**settings, "cache_gigabytes": gigabytes}))
            for kind, gigabytes in (("streamed", 0.0), ("cached", 20.0))
        }
        batches = {
            kind: dataset.load("train").batches(BATCH_SIZE, torch.device("cpu"))
            for kind, dataset in datasets.items()
        }
        shown = len(batches["streamed"]) * BATCH_SIZE
        paths = sorted(Path(folder, "photos").rglob("*.jpg"))[:shown]

        def ours(kind: str, epoch: int) -> Callable[[], object]:
            return lambda: sum(1 for _ in batches[kind].training(0, epoch))

        taken: dict[str, list[float]] = {"pillow": [], "streamed": [], "cached": []}
        for epoch in range(rounds + 1):
            taken["pillow"].append(seconds(lambda: pillow(paths)))
            for kind in ("streamed", "cached"):
                taken[kind].append(seconds(ours(kind, epoch)))
        figures = {f"{kind}_images_per_second": shown / median(values[1:]) for kind, values in taken.items()}
        for kind in ("streamed", "cached"):
            ratios = [a / b for a, b in zip(taken["pillow"][1:], taken[kind][1:], strict=True)]
            figures[f"{kind}_over_pillow"] = median(ratios)
    say_it(f"images a second: {figures}")
    return figures


def run(full: bool) -> Outcome:
    """Measure all three in turn."""
    figures = loading(640 if full else 320, 5 if full else 3)
    return Outcome(
        figures=figures,
        bars=[
            at_least("streamed_over_pillow", figures["streamed_over_pillow"], 0.8),
            at_least("cached_over_pillow", figures["cached_over_pillow"], 0.8),
        ],
    )


if __name__ == "__main__":
    sys.exit(main("photo_loading", run))
