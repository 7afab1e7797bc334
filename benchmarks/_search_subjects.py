"""The steps of a search, ready to be called on any space, and what they are compared with.

Shapes: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._memory import learned_tensors
from pipeline.events import Event
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.grey import GreyImages
from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.estimators import make_estimator
from stages.nas.estimators.base import Searched
from stages.nas.estimators.two_path import TwoPath
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nas.search_loop import SearchLoop
from stages.nn.blocks import to_channels_last
from stages.nn.mixed_op import MixedOp
from stages.nn.supernet import Supernet
from stages.space.search_space import Candidate, SearchSpace
from stages.training.optimisation import set_learning_rate, sgd
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

RATE = 0.01
NEVER = 10**9
SIZES = (2, 4, 7, 12)
_CANDIDATES = tuple(
    Candidate(kernel=kernel, expansion=expansion)
    for kernel, expansion in (
        *((3, 3), (5, 6)),  # the two that every size has
        *((7, 3), (3, 6)),
        *((5, 3), (7, 6), (3, 4)),
        *((5, 4), (7, 4), (9, 3), (9, 4), (9, 6)),
    )
)

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Setting:
    """Where and at which size is measured, and how often."""

    space: SearchSpace
    batch_size: int
    device: torch.device
    bfloat16: bool
    draws: int
    rounds: int

    def autocast(self) -> AbstractContextManager[None]:
        """Around each step: bf16 where the setting says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def images(self, seed: int) -> tuple[Tensor, Tensor]:
        """A batch of noise: x_NCHW and labels (N,)."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.batch_size, self.space.input_channels, self.space.resolution, self.space.resolution)
        x_NCHW = torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
        labels_N = torch.randint(0, self.space.classes, (self.batch_size,), generator=generator)
        return x_NCHW.to(self.device), labels_N.to(self.device)

    def synchronise(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def space_of(space: SearchSpace, candidates: int) -> SearchSpace:
    """The space with so many candidates in every searched layer, and no skip: no layer has fewer."""
    return space.model_copy(update={"candidates": _CANDIDATES[:candidates], "skip": False})


def common_pairs(space: SearchSpace) -> list[tuple[int, int]]:
    """A pair for each layer that the spaces of all sizes have: the first two candidates, in turn."""
    return [
        (index % 2, 1 - index % 2) if len(layer.blocks) > 1 else (0, 0)
        for index, layer in enumerate(space.layers())
    ]


class Searching:
    """A search's real steps (:class:`stages.nas.search_loop.SearchLoop`'s) on one batch of noise."""

    def __init__(self, setting: Setting, space: SearchSpace | None = None) -> None:
        space = space or setting.space
        few = GreyImages(
            np.zeros((16, 1, 1), np.uint8), np.zeros(16, np.int64)
        )  # the loop wants their number
        images = few.batches(2, setting.device)
        runtime = start_runtime(0, accelerator=setting.device.type, checkpoint_seconds=float("inf"))
        torch.manual_seed(0)
        block_ms = [[0.0 if b is None else b.macs / 1e9 for b in layer.blocks] for layer in space.layers()]
        architecture = Architecture(block_ms, fixed_ms=0.01)
        window = LatencyWindow(block_ms, 0.0, architecture.slowest_ms)
        targets = [LatencyTarget(0.5 * architecture.expected_ms(), window)]
        self.setting = setting
        self.loop = SearchLoop(
            SearchConfig(learning_rate=RATE, estimator="two_path"),
            space,
            0,
            architecture,
            targets,
            _context(),
            runtime,
            images,
            images,
        )
        self.two_path = self.loop.estimator
        # Without its updates of the posterior, of which a search has twenty.
        self.default = make_estimator(SearchConfig(), architecture, Searched(targets, NEVER, 0))
        self.loop.supernet.train()
        self.x_NCHW, self.labels_N = setting.images(1)

    def draw(self, seed: int) -> list[tuple[int, int]]:
        """A pair for each layer, as an architecture step would draw it."""
        return self.loop.architecture.sample_pairs(torch.Generator().manual_seed(seed))

    def weight_step(self, pairs: Pairs) -> None:
        """On the active path of the pairs."""
        with self.setting.autocast():
            self.loop.weight_step(self.x_NCHW, self.labels_N, [active for active, _ in pairs])

    def two_path_step(self, pairs: Pairs) -> None:
        """The paper's, on the pairs."""
        self.loop.learn_by(self.two_path, self.loop.architecture)
        with self.setting.autocast():
            self.loop.architecture_step(self.x_NCHW, self.labels_N, pairs)

    def architecture_step(self, pairs: Pairs) -> None:
        """The default's, on the active path, the other one, and such as take them in turn."""
        self.loop.learn_by(self.default, self.loop.architecture)
        paths = [
            [pair[(number + number // 2 * layer) % 2] for layer, pair in enumerate(pairs)]
            for number in range(SearchConfig().paths_per_step)
        ]
        with self.setting.autocast():
            self.loop.architecture_step(self.x_NCHW, self.labels_N, np.array(paths))

    def warm_up(self) -> None:
        """All steps on all candidates, so that optimizer state and the operators' plans are there."""
        rows = [len(layer.blocks) for layer in self.loop.space.layers()]
        for number in range(max(rows)):
            pairs = [(number % count, (number + 1) % count) for count in rows]
            self.weight_step(pairs)
            self.two_path_step(pairs)
            self.architecture_step(pairs)

    def learned(self) -> list[Tensor]:
        """Weights, architecture parameters, their gradients and both optimizers' state."""
        loop, two_path = self.loop, self.two_path
        assert isinstance(two_path, TwoPath)
        return learned_tensors([loop.supernet, loop.architecture], [loop.optimizer, two_path.optimizer])


class Alone:
    """Training one sampled network and nothing else: forward, backward, optimizer, by hand."""

    def __init__(self, searching: Searching, pairs: Pairs) -> None:
        loop = searching.loop
        network = loop.supernet.extract([active for active, _ in pairs])
        network.to(searching.setting.device)
        to_channels_last(network)
        self._train(network, searching)

    def _train(self, module: nn.Module, searching: Searching) -> None:
        self.module = module.train()
        self.searching = searching
        config = searching.loop.config
        recipe = Recipe(momentum=config.momentum, weight_decay=config.weight_decay)
        self.optimizer = sgd(module, recipe)
        set_learning_rate(self.optimizer, RATE)
        self.smoothing = config.label_smoothing

    def step(self) -> None:
        """One step of training."""
        with self.searching.setting.autocast():
            self.optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(
                self.module(self.searching.x_NCHW), self.searching.labels_N, label_smoothing=self.smoothing
            )
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def learned(self) -> list[Tensor]:
        """Weights, gradients and optimizer state."""
        return learned_tensors([self.module], [self.optimizer])


class AllPathsAtOnce(Alone):
    """Training a supernet that runs every candidate, weights and architecture in one step."""

    def __init__(self, searching: Searching) -> None:
        supernet = Supernet(searching.loop.space).to(searching.setting.device)
        to_channels_last(supernet)
        self._train(WeightedSum(supernet), searching)


class WeightedSum(nn.Module):
    """A layer's output is the sum of all candidates' times softmax(alpha) (DARTS, arXiv 1806.09055)."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.supernet = supernet
        device = next(supernet.parameters()).device
        self.alphas = nn.ParameterList(
            nn.Parameter(torch.zeros(len(layer.blocks), device=device)) for layer in supernet.space.layers()
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x_NCHW = self.supernet.stem(x_NCHW)
        for layer, alpha in zip(self.supernet.layers, self.alphas, strict=True):
            assert isinstance(layer, MixedOp)
            terms = (p * one(x_NCHW) for p, one in zip(alpha.softmax(0), layer.candidates, strict=True))
            total = next(terms)
            for term in terms:
                total = total + term
            x_NCHW = total
        logits: Tensor = self.supernet.classifier(self.supernet.head(x_NCHW))
        return logits


def _context() -> Context:
    # The store is never written: a step keeps nothing.
    store = Store(Path(tempfile.gettempdir()) / "search_step", _silent)
    return Context("search", "", store, FleetingScratch(), _silent)


def _silent(event: Event) -> None:
    del event
