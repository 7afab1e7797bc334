"""Training: the loop against a bare PyTorch loop, trainings side by side, and how threads wait.

The bare loop has the same network, images and optimizer, and nothing else: no averaged weights, no checks, no
checkpoints. Both train in turn, several times; figures are medians. Side by side: as many trainings as there
are cores, in processes of one thread, against the same ones one after another, with one thread each (the
same numbers come out) and with all threads each. Starting the processes counts. How threads wait for each
other: :mod:`benchmarks._waiting_threads`. Where there is a CUDA GPU, how long it waits for images:
:mod:`benchmarks._gpu_waiting`.
"""

from __future__ import annotations

import sys
import time
from statistics import median

from benchmarks._report import Outcome, at_least, main, say
from benchmarks._waiting_threads import waiting_threads
from nasflow.base.processes import usable_cores
from pipeline.artifact import Blob
from pipeline.events import Event
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from stages.data.config import DataConfig, open_dataset
from stages.space import SpaceConfig, load_space
from stages.space.search_space import NetConfig
from stages.training.recipe import Recipe

BATCH_SIZE = 64


class _NoStore:
    def put_bytes(self, data: bytes, suffix: str) -> Blob:
        raise AssertionError("nothing is stored")

    read_bytes = path = put_bytes


def _context() -> Context:
    def ignore(_event: Event) -> None:
        """Nobody listens."""

    return Context("benchmark", "0" * 64, _NoStore(), FleetingScratch(), ignore)  # type: ignore[arg-type]


def _network() -> NetConfig:
    """A network of the quick start's space: the middle candidate of every layer."""
    space = load_space(SpaceConfig())
    return space.network([3 % len(layer.blocks) for layer in space.layers()])


def ours(net: NetConfig, images: int) -> float:
    """Images a second of the loop that trains all compared networks."""
    from stages.nn.network import Network
    from stages.training.loop import train
    from stages.training.runtime import start_runtime

    runtime = start_runtime(0, checkpoint_seconds=1e9)
    dataset = open_dataset(DataConfig(train_images=images))
    training = dataset.load("train").batches(BATCH_SIZE, runtime.device)
    trained = train(
        Network(net),
        training,
        dataset.load("choice").batches(500, runtime.device),
        Recipe(epochs=1, batch_size=BATCH_SIZE),
        seed=0,
        name="ours",
        context=_context(),
        runtime=runtime,
    )
    return len(training) * BATCH_SIZE / trained.curve[0].seconds


def bare(net: NetConfig, images: int) -> float:
    """Images a second of a loop with nothing but its four lines."""
    import torch

    from stages.nn.blocks import to_channels_last
    from stages.nn.network import Network
    from stages.training.runtime import start_runtime

    device = start_runtime(0).device
    network = Network(net).to(device)
    to_channels_last(network)
    network.train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=4e-5, foreach=True
    )
    batches = open_dataset(DataConfig(train_images=images)).load("train").batches(BATCH_SIZE, device)
    started = time.monotonic()
    for x_NCHW, labels_N in batches.training(0, 0):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x_NCHW), labels_N, label_smoothing=0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return len(batches) * BATCH_SIZE / (time.monotonic() - started)


def seconds_of(
    net: NetConfig, count: int, images: int, *, side_by_side: int, threads: int | None = None
) -> float:
    """Wall time of ``count`` trainings of it; ``threads``: of each, where not by their number.

    All of one network: of unequal ones the longest would set the time of those side by side.
    """
    import torch

    from stages.training.task import Course, Task
    from stages.training.together import train_together

    def ignore(_index: int, _outcome: object) -> None:
        """The outcomes are not looked at."""

    recipe = Recipe(epochs=1, batch_size=BATCH_SIZE, side_by_side=side_by_side)
    course = Course(recipe, DataConfig(train_images=images), 0)
    tasks = [Task(f"network_{index}", net) for index in range(count)]
    together = [tasks] if threads is None else [[task] for task in tasks]
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    started = time.monotonic()
    for some in together:
        train_together(some, course, _context(), ignore)
    torch.set_num_threads(before)
    return time.monotonic() - started


def run(full: bool) -> Outcome:
    """Measure all three."""
    rounds, images = (5, 6400) if full else (3, 2560)
    net = _network()
    loops = [(ours(net, images), bare(net, images)) for _ in range(rounds + 1)][1:]  # the first warms up
    ratio = median(a / b for a, b in loops)
    say(f"the loop: {ratio:.3f} of a bare one")
    cores = usable_cores()
    count, images = max(2, cores), 40_000 if full else 12_800
    alone = seconds_of(net, count, images, side_by_side=1)
    say(f"one after another, one thread each: {alone:.1f} s")
    whole = seconds_of(net, count, images, side_by_side=1, threads=cores)
    say(f"one after another, all threads each: {whole:.1f} s")
    together = seconds_of(net, count, images, side_by_side=count)
    say(f"side by side: {together:.1f} s")
    waiting, waiting_bars = waiting_threads(full)
    from benchmarks._gpu_waiting import gpu_waiting

    gpu, gpu_bars = gpu_waiting(full)
    return Outcome(
        figures={
            "loop_images_per_second": median(a for a, _ in loops),
            "bare_loop_images_per_second": median(b for _, b in loops),
            "loop_over_bare_loop": ratio,
            "trainings": count,
            "images_each": images,
            "one_after_another_seconds": alone,
            "one_after_another_all_threads_seconds": whole,
            "side_by_side_seconds": together,
            "side_by_side_over_one_after_another": alone / together,
            "side_by_side_over_all_threads": whole / together,
            **waiting,
            **gpu,
        },
        bars=[
            at_least("loop_over_bare_loop", ratio, 0.95),
            at_least("side_by_side_over_one_after_another", alone / together, 1.6),
            *waiting_bars,
            *gpu_bars,
        ],
    )


if __name__ == "__main__":
    sys.exit(main("training", run))
