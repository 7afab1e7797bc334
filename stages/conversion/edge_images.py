"""The few images on which every step of a conversion is looked at: real ones and extreme ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.conversion.parity import Unlabelled, evenly_spaced

REAL = 3
_SEED = 0
_TILES = 4  # to a side, of the saturated image


def edge_images(images: Unlabelled) -> NDArray[np.float32]:
    """A few real images, spread over all, and behind them the extreme ones: (n, H, W, C), -1 to 1."""
    real_NHWC = images.batch_NHWC(evenly_spaced(len(images), REAL))
    return np.concatenate([real_NHWC, extreme_images(real_NHWC.shape[1], real_NHWC.shape[3])])


def extreme_images(side: int, channels: int) -> NDArray[np.float32]:
    """Five images (5, side, side, channels) from -1 to 1, at whose values networks are rarely looked at.

    All black, all white, noise, a checkerboard of single pixels, and large areas of saturated colours.
    """
    generator = np.random.default_rng(_SEED)
    rows, columns = np.indices((side, side))
    checker = np.where((rows + columns) % 2 == 0, 1.0, -1.0)[:, :, None]
    colours = generator.choice([-1.0, 1.0], (_TILES, _TILES, channels))
    tile = -(-side // _TILES)
    saturated = colours.repeat(tile, axis=0).repeat(tile, axis=1)[:side, :side]
    shape = (side, side, channels)
    found = [
        np.full(shape, -1.0),
        np.full(shape, 1.0),
        generator.uniform(-1.0, 1.0, shape),
        np.broadcast_to(checker, shape),
        saturated,
    ]
    return np.stack(found).astype(np.float32)
