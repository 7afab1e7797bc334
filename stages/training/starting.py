"""Which weights networks start from: the space's pretrained ones, fitted on some of the training images."""

from __future__ import annotations

import numpy as np
import torch

from stages.data.config import DataConfig, open_dataset
from stages.nn.pretrained import load_pretrained
from stages.nn.start import IMAGES, PretrainedStart
from stages.seeds import TrainingStream, derived_seed
from stages.space.search_space import SearchSpace


def pretrained_start(space: SearchSpace, data: DataConfig, seed: int) -> PretrainedStart:
    """The space's weights, to be fitted on :data:`IMAGES` random training images, as evaluation shows them.

    Raises MachineError where the package with the weights is not installed, IntegrityError.
    """
    weights = load_pretrained(space)
    images = open_dataset(data).load("train")
    random = np.random.default_rng(derived_seed(seed, TrainingStream.FITTED_IMAGES))
    chosen = np.sort(random.permutation(len(images))[:IMAGES])
    x_NCHW = torch.from_numpy(images.batch_NHWC(chosen)).permute(0, 3, 1, 2)
    return PretrainedStart(
        space, weights, [x_NCHW], seed=derived_seed(seed, TrainingStream.FRESH_WEIGHTS) % 2**32
    )
