"""How fast this computer trains: a few steps of the supernet and of a network, timed."""

from __future__ import annotations

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


def measure_pace(space: SearchSpace, reference: NetConfig, recipe: Recipe, batch_size: int) -> Pace:
    """Steps of random images: of paths through the supernet with all threads, of ``reference`` with one.

    Takes some seconds. ``batch_size``: of the search; the recipe has its own.
    """
    runtime = start_runtime(0, precision=recipe.precision)
    supernet = Supernet(space)
    sizes = [len(layer.blocks) for layer in space.layers()]
    paths = iter([[turn % size for size in sizes] for turn in range(WARM_UP_STEPS + STEPS)])
    supernet_ms = _step_ms(supernet, space, recipe, batch_size, runtime, lambda: (next(paths),))
    with compute_threads(1):
        network = Network(reference)
        network_ms = _step_ms(network, space, recipe, recipe.batch_size, runtime, tuple)
    return Pace(
        supernet_image_ms=supernet_ms / batch_size,
        baseline_image_ms=network_ms / recipe.batch_size,
        baseline_macs=reference.macs,
    )


def _step_ms(
    network: nn.Module,
    space: SearchSpace,
    recipe: Recipe,
    batch_size: int,
    runtime: TrainingRuntime,
    arguments: Callable[[], tuple[object, ...]],
) -> float:
    runtime.place(network)
    optimizer = sgd(network, recipe)
    set_learning_rate(optimizer, 1e-3)
    network.train()
    shape = (batch_size, space.input_channels, space.resolution, space.resolution)
    x_NCHW: Tensor = torch.randn(shape).contiguous(memory_format=torch.channels_last).to(runtime.device)
    labels_N = torch.zeros(batch_size, dtype=torch.int64, device=runtime.device)
    taken = []
    for _ in range(WARM_UP_STEPS + STEPS):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with runtime.autocast():
            loss = nn.functional.cross_entropy(network(x_NCHW, *arguments()), labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # on a GPU this waits for the step
        taken.append(1e3 * (time.perf_counter() - started))
    return median(taken[WARM_UP_STEPS:])
