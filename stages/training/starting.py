"""Which weights networks start from: the space's pretrained ones, fitted on some of the training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import Images
from stages.data.photos import class_weights
from stages.nn.network import Network, save_weights
from stages.nn.pretrained import full_network, load_pretrained, mobilenet
from stages.nn.probe import features, fit_classifier
from stages.nn.start import IMAGES, PretrainedStart
from stages.nn.supernet import Supernet
from stages.seeds import TrainingStream, derived_seed
from stages.space.search_space import NetConfig, SearchSpace
from stages.training.distillation import FULL, RecipeKind, kept_teacher

PROBE_IMAGES, _PROBE_BATCH = 2000, 50
"""Labelled images that the dense layer is fitted on; the fit takes time with their number's cube."""


class FittedStart:
    """A space's weights, fitted on :data:`IMAGES` random training images, as evaluation shows them.

    The dense layer of each network is fitted to labelled training images in closed form: one of random
    numbers sends gradients into the pretrained layers that spoil them before it has learned itself (arXiv
    2202.10054).
    """

    def __init__(self, space: SearchSpace, data: DataConfig, seed: int) -> None:
        """Raises MachineError where the package with the weights is not installed, IntegrityError."""
        self._images, self._seed = open_dataset(data).load("train"), seed
        chosen = _chosen(self._images, seed, IMAGES)
        self._start = PretrainedStart(
            space, load_pretrained(space), [_x_NCHW(self._images, chosen)], seed=_dense_seed(seed)
        )
        _fit_dense(self._start.full, self._images, seed)

    def network(self, net: NetConfig) -> Network:
        """A network of the space."""
        network = self._start.network(net)
        _fit_dense(network, self._images, self._seed)
        return network

    def fill(self, supernet: Supernet) -> None:
        """All candidates of the space; the dense layer is the full network's."""
        self._start.fill(supernet)


def pretrained_full(space: SearchSpace, data: DataConfig, seed: int) -> Network:
    """The space's largest network, started as :class:`FittedStart` does. Raises what that does."""
    network = full_network(space, load_pretrained(space), _dense_seed(seed))
    _fit_dense(network, open_dataset(data).load("train"), seed)
    return network


def pretrained_mobilenet(path: str, net: NetConfig, data: DataConfig, seed: int) -> Network:
    """A person's own MobileNetV2 (``baseline.pretrained``), its dense layer fitted as that of all others."""
    network = mobilenet(Path(path), net, _dense_seed(seed))
    _fit_dense(network, open_dataset(data).load("train"), seed)
    return network


def with_teacher(recipe: RecipeKind, space: SearchSpace, data: DataConfig, seed: int) -> RecipeKind:
    """The recipe; a teacher that is the space's full network is put where each training process finds it."""
    if recipe.teacher.network != FULL:
        return recipe
    network = pretrained_full(space, data, seed)
    return kept_teacher(recipe, network.net.model_dump_json().encode(), save_weights(network))


def _fit_dense(network: Network, images: Images, seed: int) -> None:
    chosen = _chosen(images, seed, PROBE_IMAGES)
    if len(chosen) < 2:
        return
    batches = (chosen[first : first + _PROBE_BATCH] for first in range(0, len(chosen), _PROBE_BATCH))
    features_NC = features(network, (_x_NCHW(images, numbers) for numbers in batches))
    labels_N = images.labels[chosen].astype(np.int64)
    weights_N: Tensor | None = None
    if images.balanced:
        weights_N = torch.from_numpy(class_weights(labels_N, network.net.classes)[labels_N])
    fit_classifier(network, features_NC, torch.from_numpy(labels_N), weights_N)


def _chosen(images: Images, seed: int, count: int) -> NDArray[np.int64]:
    """So many random images, ascending; the same ones for all networks."""
    random = np.random.default_rng(derived_seed(seed, TrainingStream.FITTED_IMAGES))
    return np.sort(random.permutation(len(images))[:count])


def _x_NCHW(images: Images, numbers: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(images.batch_NHWC(numbers)).permute(0, 3, 1, 2)


def _dense_seed(seed: int) -> int:
    return derived_seed(seed, TrainingStream.FRESH_WEIGHTS) % 2**32
