"""A few images as evaluation and as training show them: what :mod:`stages.data.loading` does, for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.batch_augmentation import BatchAugmentation
from stages.data.colours import on_device
from stages.data.decoded import PixelSource
from stages.data.geometry import Pixels, as_evaluated
from stages.data.variation import as_varied
from stages.data.view import View
from stages.seeds import derived_seed


def as_shown(
    pixels: PixelSource,
    numbers: Sequence[int],
    labels_N: NDArray[np.int64],
    view: View,
    *,
    variants: int,
    seed: int,
) -> list[list[Pixels]]:
    """For each image how it is evaluated, then ``variants`` times how it is trained on.

    The images make a batch, of which each variant is one epoch: where images are mixed, it is with each
    other. uint8 (resolution, resolution, channels) each.
    """
    images = [pixels.read(number) for number in numbers]
    shown = [[as_evaluated(image, view.resolution, view.fit)] for image in images]
    change = BatchAugmentation(view.augmentation, view.classes)
    for variant in range(variants):
        varied, factors = zip(
            *(
                as_varied(image, view, np.random.default_rng(derived_seed(seed, variant, 1, place)))
                for place, image in enumerate(images)
            ),
            strict=True,
        )
        factors_N3 = torch.from_numpy(np.stack(factors)) if view.augmentation.colour else None
        x_NCHW, _ = change(
            on_device(torch.stack(varied), torch.device("cpu"), factors_N3),
            torch.from_numpy(labels_N),
            seed=derived_seed(seed, variant, 2),
            mix=True,
        )
        x_NHWC = ((x_NCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        for row, image_HWC in zip(shown, x_NHWC.numpy(), strict=True):
            row.append(image_HWC)
    return shown
