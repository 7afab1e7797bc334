"""Judge paths by the supernet's weights, on batches of validation images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pipeline.stage import Context
from stages.exploration import Explored, explore
from stages.nn.supernet import Supernet
from stages.training.batches import Batches

if TYPE_CHECKING:
    from stages.path_values import Array, Integers

_LOG = "evaluations"
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
) -> Explored:
    """What every path is worth: the negative cross entropy of networks that share the supernet's weights.

    Each of ``budget`` networks is judged on one batch of validation images, with the batch's own statistics
    in its batch normalisations: the supernet's are a mixture of all paths. Evaluations are kept in
    the context's scratch one by one; a killed run goes on behind the last.
    """
    batches = list(islice(validation.in_order(validation.batch_size), MOST_BATCHES))
    kept = [float(row["value"]) for row in context.scratch.rows(_LOG)]
    done = 0

    def judge(path: Sequence[int], batch: int) -> float:
        x_NCHW, labels_N = batches[batch]
        loss = nn.functional.cross_entropy(supernet(x_NCHW, path), labels_N)
        return -float(loss)

    def evaluate(paths_NL: Integers, contexts_N: Integers) -> Array:
        nonlocal done
        values = []
        for path, batch in zip(paths_NL.tolist(), contexts_N.tolist(), strict=True):
            if done < len(kept):
                values.append(kept[done])
            else:
                values.append(judge(path, batch))
                context.scratch.append(_LOG, {"value": values[-1]})
            done += 1
            if done % 20 == 0:
                context.progress(done, budget, "evaluations")
        return np.array(values)

    supernet.train()
    with torch.no_grad(), supernet.architecture_step():
        return explore(evaluate, costs_ms, targets_ms, budget=budget, seed=seed, contexts=len(batches))
