"""Whether bfloat16 trains faster here, and learns as well: tried on one small network before all else.

Mixed precision (arXiv 1710.03740) with bfloat16 (arXiv 1905.12322), which needs no scaling of losses:
products in bfloat16; weights, statistics of batch normalisation and the optimizer in float32.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from android_bench.local.host import parse_cpuinfo
from pipeline.artifact import Record

if TYPE_CHECKING:
    from stages.data.config import DataConfig
    from stages.space.search_space import NetConfig
    from stages.training.recipe import Recipe

CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""Instructions for products of bfloat16; without them they are imitated, several times slower."""
FASTER = 1.15
WORSE = 1.03
STEPS, LAST = 80, 30
_CPUINFO, _NVIDIA = Path("/proc/cpuinfo"), Path("/dev/nvidiactl")


class Tried(Record):
    """A short training in one precision."""

    step_ms: float = Field(gt=0, description="median of its steps")
    loss: float = Field(description="mean of the last steps' losses")


class PrecisionChoice(Record):
    """Which precision all trainings have here, and what was seen."""

    precision: Literal["32", "bf16"]
    float32: Tried | None = None
    bfloat16: Tried | None = None


@dataclass(frozen=True)
class Hardware:
    """What could compute in bfloat16."""

    cpu: bool
    gpu: bool

    @property
    def capable(self) -> bool:
        """Whether anything could."""
        return self.cpu or self.gpu


def bf16_hardware() -> Hardware:
    """Looks at the processor's flags and for a GPU's driver; loads nothing."""
    try:
        text = _CPUINFO.read_text(errors="replace")
    except OSError:
        text = ""
    fields = parse_cpuinfo(text)
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    return Hardware(cpu=bool(CPU_FLAGS & set(flags)), gpu=_NVIDIA.exists())


def choose(float32: Tried, bfloat16: Tried) -> PrecisionChoice:
    """bf16 where its steps are at least 15 % faster and its loss is at most 3 % higher."""
    better = bfloat16.step_ms * FASTER <= float32.step_ms and bfloat16.loss <= float32.loss * WORSE
    return PrecisionChoice(precision="bf16" if better else "32", float32=float32, bfloat16=bfloat16)


def try_precisions(net: NetConfig, recipe: Recipe, data: DataConfig, seed: int) -> PrecisionChoice:
    """Train ``net`` for some steps in both. Takes seconds to a minute."""
    import torch

    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        return PrecisionChoice(precision="32")
    return choose(*(try_precision(net, recipe, data, seed, bf16=half) for half in (False, True)))


def try_precision(
    net: NetConfig, recipe: Recipe, data: DataConfig, seed: int, *, bf16: bool, steps: int = STEPS
) -> Tried:
    """Train ``net`` for some steps, at half the recipe's learning rate."""
    from torch import nn

    from stages.data.config import open_dataset
    from stages.nn.network import Network
    from stages.training.optimisation import set_learning_rate, sgd
    from stages.training.runtime import start_runtime

    runtime = start_runtime(seed, precision="bf16" if bf16 else "32")
    network = Network(net)
    runtime.place(network)
    optimizer = sgd(network, recipe)
    network.train()
    set_learning_rate(optimizer, recipe.learning_rate / 2)
    batches = open_dataset(data).load("train").batches(recipe.batch_size, runtime.device)
    taken: list[float] = []
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        for x_NCHW, labels in batches.training(seed, epoch):
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            with runtime.autocast():
                loss = nn.functional.cross_entropy(network(x_NCHW), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))  # on a GPU this waits for the step
            taken.append(1e3 * (time.perf_counter() - started))
            if len(losses) == steps:
                break
        epoch += 1
    last = losses[-min(LAST, steps) :]
    return Tried(step_ms=median(taken[len(taken) // 4 :]), loss=sum(last) / len(last))
