"""Do the errors of the blocks' fits, which need no labels, rank a space's paths as a linear probe does?

Compare Blockwisely Supervised NAS (arXiv 1911.13053), whose blocks are trained to the same end. All paths are
taken out of one supernet that was fitted on the full network's activations, as a search starts from it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from benchmarks._pictures import Pictures
from benchmarks._report import say
from stages.nn.network import Network
from stages.nn.probe import features, ridge_classifier
from stages.nn.start import PretrainedStart
from stages.nn.supernet import Supernet
from stages.space.search_space import SearchSpace

RESPLITS, RESAMPLES = 12, 2000


def rank_correlations(
    space: SearchSpace, start: PretrainedStart, pictures: Pictures, count: int
) -> dict[str, Any]:
    """Rank correlations over ``count`` random paths, with 95 % bootstrap intervals over paths."""
    supernet = Supernet(space).eval()
    block_errors = start.fill(supernet)
    chance = random.Random(0)
    error, work, accuracy, entropy = [], [], [], []
    for number in range(count):
        path = tuple(chance.randrange(len(layer.blocks)) for layer in space.layers())
        network = supernet.extract(path).eval()
        error.append(sum(row[choice] for row, choice in zip(block_errors, path, strict=True)))
        work.append(float(network.net.macs))
        score = _probed(network, pictures)
        accuracy.append(score[0])
        entropy.append(score[1])
        say(f"path {number + 1} of {count}: {100 * score[0]:.1f} %, cross-entropy {score[1]:.3f}")
    less_error, less_entropy = -np.array(error), -np.array(entropy)
    columns = {"accuracy": np.array(accuracy), "cross_entropy": less_entropy}
    return {
        "count": count,
        "percent": [round(100 * value, 2) for value in accuracy],
        "block_errors": [[round(value, 4) for value in row] for row in block_errors],
        **{
            f"spearman_{name}_{column}": _with_interval(np.stack([values, target]))
            for column, target in columns.items()
            for name, values in {"block_errors": less_error, "work": np.array(work)}.items()
        },
        **{
            f"spearman_block_errors_{column}_at_equal_work": _with_interval(
                np.stack([less_error, target, np.array(work)])
            )
            for column, target in columns.items()
        },
    }


def _probed(network: Network, pictures: Pictures) -> tuple[float, float]:
    """Accuracy and cross-entropy of a linear probe, means over random splits of all pictures.

    Some of its test pictures were fitted, without labels, but for all paths alike: they are to be compared
    with one another, and one split's test pictures are too few for that.
    """
    labels = torch.from_numpy(pictures.labels)
    found = features(network, pictures.batches(np.arange(len(labels))))
    accuracy, entropy = [], []
    for training, test in pictures.splits(RESPLITS):
        weight_KC, bias_K = ridge_classifier(found[training], labels[training], len(pictures.class_names))
        logits = found[test].double() @ weight_KC.T + bias_K
        accuracy.append(float((logits.argmax(1) == labels[test]).double().mean()))
        entropy.append(float(torch.nn.functional.cross_entropy(logits, labels[test])))
    return fmean(accuracy), fmean(entropy)


def _with_interval(columns: NDArray[np.float64]) -> Sequence[float]:
    """Estimate and bounds of the rank correlation of two columns, given the third if there is one."""
    chance = np.random.default_rng(0)
    drawn = chance.integers(columns.shape[1], size=(RESAMPLES, columns.shape[1]))
    bounds = np.percentile([_correlation(columns[:, which]) for which in drawn], [2.5, 97.5])
    return [round(float(value), 3) for value in (_correlation(columns), *bounds)]


def _correlation(columns: NDArray[np.float64]) -> float:
    if len(columns) == 2:
        return float(spearmanr(columns[0], columns[1]).statistic)
    first, second, given = (rankdata(column) for column in columns)
    ab, ac, bc = (np.corrcoef(*pair)[0, 1] for pair in ((first, second), (first, given), (second, given)))
    return float((ab - ac * bc) / np.sqrt((1 - ac * ac) * (1 - bc * bc)))
