"""Which share of its time a CUDA GPU waits for images, while it trains MobileNetV2 at 224 pixels in bf16.

JPEGs of 500x375 pixels are decoded and varied by as many processes as a run would start. The GPU itself says
when it began and ended each step (CUDA events): what lies between two steps, it has waited. A clock around
the processor's wait would also count time in which the GPU still works off what it was given before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks._report import Bar, at_most, say
from benchmarks.photo_loading import RESOLUTION, write_photos
from stages.data.config import SizedData, open_dataset
from stages.nn.network import Network
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.training.optimisation import classification_loss, set_learning_rate, sgd
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

BATCH_SIZE, SKIPPED = 256, 5
"""The first steps start processes and choose kernels."""
LIMIT = 0.1


def waiting_share(steps: Sequence[tuple[float, float]]) -> float:
    """Of the time from the first step's end to the last one's: what lies between steps (begin, end)."""
    waited = sum(begin - end for (_, end), (begin, _) in pairwise(steps))
    return waited / (steps[-1][1] - steps[0][1])


def gpu_waiting(full: bool) -> tuple[dict[str, float], list[Bar]]:
    """Figures and bars; none without a CUDA GPU."""
    if not torch.cuda.is_available():
        say("no CUDA GPU: how long one waits for images is not measured")
        return {}, []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        write_photos(Path(folder, "photos"), 10_240 if full else 5_120, (500, 375))
        return _measured(f"{folder}/photos", epochs=4 if full else 2)


def _measured(photos: str, epochs: int) -> tuple[dict[str, float], list[Bar]]:
    runtime = start_runtime(0, accelerator="cuda", precision="bf16")
    settings = {"source": "folder", "path": photos, "resolution": RESOLUTION, "cache_gigabytes": 0}
    dataset = open_dataset(SizedData.model_validate(settings))
    batches = runtime.batches(dataset.load("train"), BATCH_SIZE)
    network = Network(mobilenet_v2(width=1.0, resolution=RESOLUTION, classes=2))
    runtime.place(network)
    recipe = Recipe(batch_size=BATCH_SIZE)
    optimizer, loss = sgd(network, recipe), classification_loss(None, recipe.label_smoothing)
    set_learning_rate(optimizer, 0.01)
    torch.cuda.reset_peak_memory_stats()
    marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    for epoch in range(epochs):
        for x_NCHW, labels_N in batches.training(0, epoch):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            optimizer.zero_grad(set_to_none=True)
            runtime.add_gradients(network, lambda x, labels: loss(network(x), labels), x_NCHW, labels_N)
            optimizer.step()
            end.record()
            marks.append((begin, end))
    torch.cuda.synchronize()
    first, *_ = marks[SKIPPED]
    steps = [(first.elapsed_time(begin), first.elapsed_time(end)) for begin, end in marks[SKIPPED:]]
    share = waiting_share(steps)
    seconds = 1e-3 * (steps[-1][1] - steps[0][1])
    figures = {
        "gpu_waiting_share": share,
        "gpu_images_per_second": BATCH_SIZE * (len(steps) - 1) / seconds,
        "gpu_peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
    }
    return figures, [at_most("gpu_waiting_share", share, LIMIT)]
