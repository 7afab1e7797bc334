"""Photos: how fast they come, and whether memory grows with their number.

Speed: JPEGs of 500x375 pixels, as a network of 224 pixels is shown them in training (preset light: random
crop, mirroring, colour), on one core, against Pillow decoding and resizing the same files to 224x224 and
nothing else; both in turn. ``streamed`` decodes each time, ``cached`` reads what was decoded once.

Memory: the largest process of a whole run, from the first look at a folder to the last stage that trains, of
2,000 images and of 20,000 (with ``--quick`` 500 and 5,000), each run with an empty cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from benchmarks._report import Outcome, at_least, at_most, main, say
from stages.data.config import SizedData, open_dataset

RESOLUTION, BATCH_SIZE = 224, 64
CONFIG = """
seed: 1
data: {{source: folder, path: {folder}, copies: ignore}}
space: {{name: {space}}}
measurement: {{rounds: 3, extra_rounds: 0, interval_percent: 80, warmup_ms: 1, min_ms: 2}}
target: {{ratio: 0.12, minimum_share: 0.5}}
training: {{epochs: 1, side_by_side: 1}}
profile: {{anchor_width: 0.35}}
latency: {{calibration_networks: 5, held_out_networks: 5}}
search: {{warmup_epochs: 1, epochs: 1, batch_size: 32}}
prune: {{candidates: 2, recalibration_batches: 4, evaluations: 50, shortlist: 2}}
baseline: {{widths: [0.35], published_widths: []}}
"""
SPACE = """
name: tiny
resolution: 32
classes: 2
stem: {width: 16, kernel: 3, stride: 2}
stages:
  - {width: 16, layers: 1, stride: 2}
  - {width: 24, layers: 2, stride: 2}
head_width: 64
candidates:
  - {kernel: 3, expansion: 2}
  - {kernel: 5, expansion: 4}
"""


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


def peak_megabytes(count: int) -> float:
    """The largest resident size of any process of a run that ends with the last training."""
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder, "photos"), count, (64, 48))
        Path(folder, "pipeline.yaml").write_text(CONFIG.format(folder="photos", space="tiny.yaml"))
        Path(folder, "tiny.yaml").write_text(SPACE)
        program = (
            "import resource, subprocess, sys\n"
            "words = [sys.executable, '-m', 'nasflow', 'run', '--until', 'finetune', '--json']\n"
            "code = subprocess.call(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
            "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        root = Path(__file__).parents[1]
        environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache", "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        code, kilobytes = map(int, done.stdout.split())
        if code:
            raise RuntimeError(f"the run of {count} images ended with exit code {code}")
    say(f"{count} images: {kilobytes / 1024:.0f} MB at most")
    return kilobytes / 1024


def run(full: bool) -> Outcome:
    """Measure both."""
    figures = loading(640 if full else 320, 5 if full else 3)
    few, many = (2_000, 20_000) if full else (500, 5_000)
    peaks = {count: peak_megabytes(count) for count in (few, many)}
    growth = peaks[many] / peaks[few]
    return Outcome(
        figures={
            **figures,
            "few_images": few,
            "many_images": many,
            "few_images_megabytes": peaks[few],
            "many_images_megabytes": peaks[many],
            "many_over_few_megabytes": growth,
        },
        bars=[
            at_least("streamed_over_pillow", figures["streamed_over_pillow"], 0.8),
            at_least("cached_over_pillow", figures["cached_over_pillow"], 0.8),
            at_most("many_over_few_megabytes", growth, 1.1),
        ],
    )


if __name__ == "__main__":
    sys.exit(main("photo_loading", run))
