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
def fit_classifier(network: Network, features_NC: Tensor, labels_N: Tensor) -> None:
    """Fit the network's dense layer to features (see :func:`features`) and labels. Raises UsageError."""
    classifier = network.blocks[-1]
    assert isinstance(classifier, Classifier)
    if len(features_NC) < 2:
        raise UsageError(f"a classifier cannot be fitted to the features of {len(features_NC)} images.")
    weight_KC, bias_K = ridge_classifier(features_NC, labels_N, network.net.classes)
    classifier.dense.weight.copy_(weight_KC)
    classifier.dense.bias.copy_(bias_K)


def ridge_classifier(features_NC: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights (classes, C) and biases (classes,), float64, of logits."""
    raw = features_NC.double()
    mean, deviation = raw.mean(0), raw.std(0, correction=0).clamp(min=1e-6)
    scaled = (raw - mean) / deviation
    targets = functional.one_hot(labels_N, classes).double()
    share = targets.mean(0)
    centred = targets - share
    values, vectors = torch.linalg.eigh(scaled @ scaled.T)
    values = values.clamp(min=0)
    turned = vectors.T @ centred
    count = len(raw)
    best = (float("inf"), STRENGTHS[-1], 1.0)
    for strength in STRENGTHS:
        shrink = values / (values + strength * count)
        leverage = vectors.square() @ shrink + 1 / count
        residual = centred - vectors @ (shrink[:, None] * turned)
        left_out = targets - residual / (1 - leverage).clamp(min=1e-6)[:, None]
        for factor in _FACTORS:
            loss = float(functional.cross_entropy(factor * left_out, labels_N))
            best = min(best, (loss, strength, factor))
    _, strength, factor = best
    weight_KC = factor * (scaled.T @ vectors @ (turned / (values + strength * count)[:, None])).T / deviation
    return weight_KC, factor * share - weight_KC @ mean
