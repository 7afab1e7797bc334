"""How fast this computer trains: a few steps of the supernet and of a network, timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from stages.nn.network import Network
from stages.nn.supernet import Supernet
from stages.space.search_space import NetConfig, SearchSpace
from stages.training.budget import Pace
from stages.training.optimisation import set_learning_rate, sgd
from stages.training.recipe import Recipe
from stages.training.runtime import TrainingRuntime, start_runtime
from stages.training.schedule import compute_threads

WARM_UP_STEPS, STEPS = 3, 9
LEAST_STEPS = 2
"""That are timed where there is time for no more."""


def measure_pace(space: SearchSpace, reference: NetConfig, recipe: Recipe, batch_size: int) -> Pace:
    """Steps of random images: of paths through the supernet with all threads, of ``reference`` with one.

    Takes some seconds. ``batch_size``: of the search; the recipe has its own.
    """
    runtime = start_runtime(0, precision=recipe.precision)
    supernet_ms = supernet_step_ms(space, recipe, batch_size, runtime)
    with compute_threads(1):
        network_ms = network_step_ms(reference, recipe, recipe.batch_size, runtime)
    return Pace(
        supernet_image_ms=supernet_ms / batch_size,
        baseline_image_ms=network_ms / recipe.batch_size,
        baseline_macs=reference.macs,
    )


def supernet_step_ms(
    space: SearchSpace,
    recipe: Recipe,
    batch_size: int,
    runtime: TrainingRuntime,
    most_seconds: float = math.inf,
) -> float:
    """A weight step of the supernet: median over steps, each of which takes the next candidate everywhere."""
    sizes = [len(layer.blocks) for layer in space.layers()]
    turn = 0

    def path() -> tuple[object, ...]:
        nonlocal turn
        turn += 1
        return ([turn % size for size in sizes],)

    x_NCHW = random_images(space.input_channels, space.resolution, batch_size, runtime)
    return median_ms(_step(Supernet(space), x_NCHW, recipe, runtime, path), most_seconds)


def network_step_ms(
    net: NetConfig,
    recipe: Recipe,
    batch_size: int,
    runtime: TrainingRuntime,
    most_seconds: float = math.inf,
) -> float:
    """A step of one network: median over steps."""
    x_NCHW = random_images(net.input_channels, net.resolution, batch_size, runtime)
    return median_ms(_step(Network(net), x_NCHW, recipe, runtime, tuple), most_seconds)


def random_images(channels: int, resolution: int, batch_size: int, runtime: TrainingRuntime) -> Tensor:
    """Noise of the right size on the device: x_NCHW, channels last in memory."""
    x_NCHW = torch.randn(batch_size, channels, resolution, resolution)
    return x_NCHW.contiguous(memory_format=torch.channels_last).to(runtime.device)


def median_ms(step: Callable[[], object], most_seconds: float = math.inf) -> float:
    """Of STEPS steps behind WARM_UP_STEPS; of fewer, LEAST_STEPS behind one, where they take too long."""
    taken: list[float] = []
    began = time.perf_counter()
    for number in range(WARM_UP_STEPS + STEPS):
        started = time.perf_counter()
        step()
        taken.append(1e3 * (time.perf_counter() - started))
        if number >= LEAST_STEPS and time.perf_counter() - began > most_seconds:
            break
    warm_up = WARM_UP_STEPS if len(taken) >= WARM_UP_STEPS + LEAST_STEPS else 1
    return median(taken[warm_up:])


def _step(
    network: nn.Module,
    x_NCHW: Tensor,
    recipe: Recipe,
    runtime: TrainingRuntime,
    arguments: Callable[[], tuple[object, ...]],
) -> Callable[[], None]:
    runtime.place(network)
    optimizer = sgd(network, recipe)
    set_learning_rate(optimizer, 1e-3)
    network.train()
    labels_N = torch.zeros(len(x_NCHW), dtype=torch.int64, device=runtime.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with runtime.autocast():
            loss = nn.functional.cross_entropy(network(x_NCHW, *arguments()), labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # on a GPU this waits for the step

    return step
