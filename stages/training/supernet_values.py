"""Judge paths by the supernet's weights, on batches of validation images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pipeline.stage import Context
from stages.exploration import Explored, explore
from stages.nn.supernet import Supernet
from stages.training.batches import Batches
from stages.training.optimisation import check_loss

if TYPE_CHECKING:
    from stages.path_values import Array, Integers

EVALUATIONS = "evaluations"
MOST_BATCHES = 16


def explore_supernet(
    supernet: Supernet,
    validation: Batches,
    costs_ms: Sequence[Sequence[float]],
    targets_ms: Sequence[float],
    *,
    budget: int,
    seed: int,
    context: Context,
    every_few: Callable[[], object] | None = None,
) -> Explored:
    """What every path is worth: the negative cross entropy of networks that share the supernet's weights.

    Each of ``budget`` networks is judged on one batch of validation images, with the batch's own statistics
    in its batch normalisations: the supernet's are a mixture of all paths. Evaluations are kept in
    the context's scratch one by one; a killed run goes on behind the last. ``every_few`` is called after
    some of them, to keep what they took. The supernet is left as it was. Raises TrainingDiverged where a
    loss is no number.
    """
    count = min(MOST_BATCHES, len(validation))
    batches = list(islice(validation.in_order(validation.batch_size), count))
    # By what was judged, not by its place: a damaged line costs an evaluation, and nothing else.
    kept = {
        (tuple(row["path"]), int(row["batch"])): float(row["value"])
        for row in context.scratch.rows(EVALUATIONS)
    }
    done = 0

    def judge(path: Sequence[int], batch: int) -> float:
        x_NCHW, labels_N = batches[batch]
        loss = float(nn.functional.cross_entropy(supernet(x_NCHW, path), labels_N))
        check_loss(loss, what=f"network {list(path)} in the supernet", step=done)
        return -loss

    def evaluate(paths_NL: Integers, contexts_N: Integers) -> Array:
        nonlocal done
        values = []
        for path, batch in zip(paths_NL.tolist(), contexts_N.tolist(), strict=True):
            key = (tuple(path), batch)
            if key not in kept:
                kept[key] = judge(path, batch)
                context.scratch.append(EVALUATIONS, {"path": path, "batch": batch, "value": kept[key]})
            values.append(kept[key])
            done += 1
            if done % 20 == 0:
                context.progress(done, budget, "evaluations")
                if every_few is not None:
                    every_few()
        return np.array(values)

    was_training = supernet.training
    supernet.train()
    try:
        with torch.no_grad(), supernet.architecture_step():
            return explore(evaluate, costs_ms, targets_ms, budget=budget, seed=seed, contexts=len(batches))
    finally:
        supernet.train(was_training)
