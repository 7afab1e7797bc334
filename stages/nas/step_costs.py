"""What a step of search and training costs on this computer: time from a few steps, memory by count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig, architecture_cost
from stages.nas.estimators import make_estimator
from stages.nas.estimators.base import Searched
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nas.sandwich import extreme_paths, sandwich_loss
from stages.nn.supernet import Supernet
from stages.space.search_space import NetConfig, SearchSpace
from stages.training.budget import Pace
from stages.training.pace import median_ms, network_step_ms, random_images, supernet_step_ms
from stages.training.recipe import Recipe
from stages.training.runtime import Precision, TrainingRuntime, start_runtime
from stages.training.schedule import compute_threads
from stages.training.step_memory import StepMemory, activation_bytes, kept_bytes, parameters_of, probed_batch

MOST_SECONDS = 0.5
"""For each kind of step, where the least number of steps does not take longer."""
MACS_OF_A_BATCH = 1e9
"""On a processor, batches are made smaller than this: their images come one after another anyway."""
LEAST_IMAGES = 2
SANDWICH_PATHS = 3
_FLOAT = 4


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of an image in a training step, with the threads that such a training has.

    ``supernet_image_ms``, ``architecture_image_ms``: with ``threads``, None where none was asked for.
    ``device``: ``cpu``, or the GPU's name. ``took_seconds``: 0 where an earlier measurement is used.
    """

    device: str
    threads: int
    gpus: int
    pace: Pace
    architecture_image_ms: float
    batch_sizes: tuple[int, ...]
    took_seconds: float


def measure_steps(
    space: SearchSpace, reference: NetConfig, recipe: Recipe, config: SearchConfig
) -> StepTimes:
    """Time a few steps on random images of the right size: supernet, architecture, one network. Seconds."""
    started = time.perf_counter()
    runtime = start_runtime(0, precision=recipe.precision)
    on_cpu = runtime.device.type == "cpu"
    macs = max(reference.macs, space.network(space.middle_path()).macs)
    most = max(LEAST_IMAGES, int(MACS_OF_A_BATCH / macs)) if on_cpu else 4096
    sizes = [
        min(most, size) for size in (config.batch_size, config.architecture_batch_size, recipe.batch_size)
    ]
    supernet_ms, sizes[0] = _that_fits(
        lambda size: supernet_step_ms(space, recipe, size, runtime, MOST_SECONDS), sizes[0]
    )
    if config.distillation == "in_place":
        supernet_ms *= SANDWICH_PATHS
    architecture_ms, sizes[1] = _that_fits(
        lambda size: _architecture_step_ms(space, config, size, runtime), sizes[1]
    )
    with compute_threads(1):
        network_ms, sizes[2] = _that_fits(
            lambda size: network_step_ms(reference, recipe, size, runtime, MOST_SECONDS), sizes[2]
        )
    return StepTimes(
        device=_name_of(runtime.device),
        threads=torch.get_num_threads() if on_cpu else 1,
        gpus=0 if on_cpu else max(1, torch.cuda.device_count()),
        pace=Pace(
            supernet_image_ms=supernet_ms / sizes[0],
            baseline_image_ms=network_ms / sizes[2],
            baseline_macs=reference.macs,
        ),
        architecture_image_ms=architecture_ms / sizes[1],
        batch_sizes=tuple(sizes),
        took_seconds=time.perf_counter() - started,
    )


def _that_fits(measure: Callable[[int], float], size: int) -> tuple[float, int]:
    """What a batch of ``size`` images takes, or one of fewer where a GPU has no memory for it; how many."""
    while True:
        try:
            return measure(size), size
        except torch.OutOfMemoryError:
            if size <= LEAST_IMAGES:
                raise
        size //= 2


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def steps_of_pace(pace: Pace, config: SearchConfig) -> StepTimes:
    """What an earlier measurement says, with nothing timed."""
    device = start_runtime(0).device
    on_cpu = device.type == "cpu"
    return StepTimes(
        device=_name_of(device),
        threads=torch.get_num_threads() if on_cpu else 1,
        gpus=0 if on_cpu else max(1, torch.cuda.device_count()),
        pace=pace,
        architecture_image_ms=architecture_cost(config) * pace.supernet_image_ms,
        batch_sizes=(),
        took_seconds=0.0,
    )


def supernet_memory(space: SearchSpace, config: SearchConfig, precision: Precision) -> StepMemory:
    """Of a search: the larger of a weight step on the largest path and an architecture step."""
    supernet = Supernet(space)
    largest, smallest = extreme_paths(space)
    x_NCHW, labels_N = probed_batch(space.input_channels, space.resolution)

    def weights() -> Tensor:
        if config.distillation == "in_place":
            return sandwich_loss(supernet, x_NCHW, labels_N, largest, cross_entropy)
        return cross_entropy(supernet(x_NCHW, largest), labels_N)

    def architecture() -> Tensor:
        pairs = list(zip(largest, smallest, strict=True))
        gates = [None if a == b else torch.tensor([1.0, 0.0], requires_grad=True) for a, b in pairs]
        with supernet.architecture_step():
            return cross_entropy(supernet(x_NCHW, pairs=pairs, gates_L2=gates), labels_N)

    kept = activation_bytes(kept_bytes(supernet, weights), config.batch_size, precision)
    if config.estimator == "two_path":  # the others keep nothing for a backward pass
        of_pairs = kept_bytes(supernet, architecture)
        kept = max(kept, activation_bytes(of_pairs, config.architecture_batch_size, precision))
    # Weights and momentum of all paths, gradients of the sampled one.
    learned = _FLOAT * (2 * parameters_of(supernet) + space.network(largest).parameters)
    return StepMemory(learned, kept)


def _architecture_step_ms(
    space: SearchSpace, config: SearchConfig, batch_size: int, runtime: TrainingRuntime
) -> float:
    supernet = Supernet(space)
    runtime.place(supernet)
    supernet.train()
    rows = [[0.0] * len(layer.blocks) for layer in space.layers()]
    architecture = Architecture(rows, 1.0)
    target = LatencyTarget(1.0, LatencyWindow(rows, 0.0, 1.0))
    estimator = make_estimator(config, architecture, Searched([target], 1, 0))
    generator = torch.Generator().manual_seed(0)
    x_NCHW = random_images(space.input_channels, space.resolution, batch_size, runtime)
    labels_N = torch.zeros(batch_size, dtype=torch.int64, device=runtime.device)

    def step() -> None:
        draws = estimator.draw(architecture, generator)
        with runtime.autocast():
            estimator.evaluate(supernet, architecture, x_NCHW, labels_N, draws)

    return median_ms(step, MOST_SECONDS)
