"""Judge paths by the supernet's weights, on batches of validation images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pipeline.stage import Context
from stages.data.dataset import Batches
from stages.nas.exploration import Explored, explore
from stages.nn.supernet import Supernet
from stages.training.optimisation import check_loss

if TYPE_CHECKING:
    from stages.nas.path_values import Array, Integers

EVALUATIONS = "evaluations"
MOST_BATCHES = 16


class SupernetEvaluator:
    """Values of networks that share a supernet's weights: negative cross entropy on batches of images.

    Each batch normalisation takes the batch's own statistics: the supernet's are a mixture of all paths,
    unless it kept those of pretrained weights, which hold for every path. The supernet is left as it was.
    Values are kept in the context's scratch one by one, so that a killed run goes on behind the last.
    """

    def __init__(self, supernet: Supernet, images: Batches, context: Context) -> None:
        self.supernet, self.images, self.context = supernet, images, context
        self.batches = min(MOST_BATCHES, len(images))
        # By what was evaluated, not by its place: a damaged line costs an evaluation, and nothing else.
        self._kept = {
            (tuple(row["path"]), int(row["batch"])): float(row["value"])
            for row in context.scratch.rows(EVALUATIONS)
        }

    def value(self, path: Sequence[int], batch: int) -> float:
        """On one batch. Raises TrainingDivergedError where it is no number."""
        key = (tuple(path), batch)
        if key not in self._kept:
            self._kept[key] = self._evaluate(path, batch)
            row = {"path": list(path), "batch": batch, "value": self._kept[key]}
            self.context.scratch.append(EVALUATIONS, row)
        return self._kept[key]

    def mean_value(self, path: Sequence[int]) -> float:
        """On all batches. Raises TrainingDivergedError."""
        return sum(self.value(path, batch) for batch in range(self.batches)) / self.batches

    def _evaluate(self, path: Sequence[int], batch: int) -> float:
        x_NCHW, labels_N = next(self.images.in_order(self.images.batch_size, first=batch))
        was_training = self.supernet.training
        self.supernet.train()
        try:
            with torch.no_grad(), self.supernet.architecture_step():
                loss = float(nn.functional.cross_entropy(self.supernet(x_NCHW, path), labels_N))
        finally:
            self.supernet.train(was_training)
        check_loss(loss, what=f"network {list(path)} in the supernet", step=len(self._kept))
        return -loss


def explore_supernet(
    evaluator: SupernetEvaluator,
    costs_ms: Sequence[Sequence[float]],
    targets_ms: Sequence[float],
    *,
    budget: int,
    seed: int,
    every_few: Callable[[], object] | None = None,
) -> Explored:
    """What every path is worth, learned from ``budget`` networks, each evaluated on one batch.

    ``every_few`` is called after some of them, to keep what they took. Raises TrainingDivergedError.
    """
    done = 0

    def evaluate(paths_NL: Integers, contexts_N: Integers) -> Array:
        nonlocal done
        values = []
        for path, batch in zip(paths_NL.tolist(), contexts_N.tolist(), strict=True):
            values.append(evaluator.value(path, batch))
            done += 1
            if done % 20 == 0:
                evaluator.context.progress(done, budget, "evaluations")
                if every_few is not None:
                    every_few()
        return np.array(values)

    contexts = evaluator.batches
    return explore(evaluate, costs_ms, targets_ms, budget=budget, seed=seed, contexts=contexts)
