"""A dense layer fitted in closed form to features of labelled images: a linear probe, a start for training.

Ridge regression to one-hot labels. Its strength, and a factor that makes its outputs logits, are those of the
least cross-entropy when each image is left out in turn; ridge regression gives that without fitting again.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from nasflow.base.errors import UsageError
from stages.nn.blocks import Classifier
from stages.nn.network import Network

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""Penalty on the squared weights of standardised features, as a share of the number of images."""
_FACTORS = tuple(2.0 ** (power / 2) for power in range(-2, 13))


@torch.no_grad()
def features(network: Network, x_batches: Iterable[Tensor]) -> Tensor:
    """What the dense layer reads: (N, C) float32, the last convolution's mean over all places."""
    found: list[Tensor] = []
    was_training = network.training
    network.eval()
    for x_NCHW in x_batches:
        for block in network.blocks[:-1]:
            x_NCHW = block(x_NCHW)
        found.append(x_NCHW.mean((2, 3)))
    network.train(was_training)
    return torch.cat(found)


@torch.no_grad()
def fit_classifier(
    network: Network, features_NC: Tensor, labels_N: Tensor, weights_N: Tensor | None = None
) -> None:
    """Fit the network's dense layer to features (see :func:`features`) and labels.

    ``weights_N``: see :func:`ridge_classifier`. Raises UsageError.
    """
    classifier = network.blocks[-1]
    assert isinstance(classifier, Classifier)
    if len(features_NC) < 2:
        raise UsageError(f"a classifier cannot be fitted to the features of {len(features_NC)} images.")
    weight_KC, bias_K = ridge_classifier(features_NC, labels_N, network.net.classes, weights_N)
    classifier.dense.weight.copy_(weight_KC)
    classifier.dense.bias.copy_(bias_K)


def ridge_classifier(
    features_NC: Tensor, labels_N: Tensor, classes: int, weights_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weights (classes, C) and biases (classes,), float64, of logits.

    ``weights_N``: how much each image counts, above 0, with the mean 1; None: all the same. Weighted least
    squares are plain ones of rows that are multiplied by the root of their weight.
    """
    raw = features_NC.double()
    count = len(raw)
    weights_N1 = raw.new_ones(count, 1) if weights_N is None else weights_N.double()[:, None]
    mean = (weights_N1 * raw).mean(0)
    deviation = (weights_N1 * (raw - mean).square()).mean(0).sqrt().clamp(min=1e-6)
    roots_N1 = weights_N1.sqrt()
    scaled = roots_N1 * (raw - mean) / deviation
    targets = functional.one_hot(labels_N, classes).double()
    share = (weights_N1 * targets).mean(0)
    centred = roots_N1 * (targets - share)
    values, vectors = torch.linalg.eigh(scaled @ scaled.T)
    values = values.clamp(min=0)
    turned = vectors.T @ centred
    best = (float("inf"), STRENGTHS[-1], 1.0)
    for strength in STRENGTHS:
        shrink = values / (values + strength * count)
        leverage_N1 = (vectors.square() @ shrink)[:, None] + weights_N1 / count
        residual = (centred - vectors @ (shrink[:, None] * turned)) / roots_N1
        left_out = targets - residual / (1 - leverage_N1).clamp(min=1e-6)
        for factor in _FACTORS:
            each_N = functional.cross_entropy(factor * left_out, labels_N, reduction="none")
            loss = float((weights_N1[:, 0] * each_N).mean())
            best = min(best, (loss, strength, factor))
    _, strength, factor = best
    weight_KC = factor * (scaled.T @ vectors @ (turned / (values + strength * count)[:, None])).T / deviation
    return weight_KC, factor * share - weight_KC @ mean
