"""Which block of a file in another precision is the first whose output is too far from the float32 file's.

Both files are made anew of the float32 file cut behind each block: the second in its precision, of the same
ranges. In whole files a block's output could not be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from android_bench.device import Device
from stages.conversion.differing_block import block_ends, cut_behind
from stages.conversion.flatbuffer import Implementations
from stages.conversion.parity import signal_to_noise_db
from stages.data.model_input import model_input
from stages.documents import ElementType
from stages.space.search_space import NetConfig


@dataclass(frozen=True)
class LossyBlock:
    """A block, counted from 0, and its output's signal-to-noise ratio against float32 in decibels."""

    index: int
    key: str
    snr_db: float

    def __str__(self) -> str:
        """``block 3 (mbconv_k3_e6_s1_24-24_r16), with 4.2 dB``."""
        return f"block {self.index} ({self.key}), with {self.snr_db:.1f} dB"


@dataclass(frozen=True)
class Remaking:
    """How the file of another precision was made: ``remake`` does the same with a part of the float32 file.

    ``logits_model``: that file without its softmax. ``input_type``: what the result takes.
    """

    logits_model: bytes
    remake: Callable[[bytes], bytes]
    input_type: ElementType


def first_lossy_block(
    making: Remaking,
    net: NetConfig,
    implementations: Implementations,
    images_NHWC: NDArray[np.float32],
    here: Device,
    least_db: float,
) -> LossyBlock | None:
    """The first block below ``least_db``; where there is none, the one with the lowest ratio.

    None where the blocks cannot be found in the file. Raises DeviceError where a model does not run.
    """
    places = block_ends(making.logits_model, net, implementations)
    if places is None:
        return None
    found: list[LossyBlock] = []
    for index, place in enumerate(places):
        part = cut_behind(making.logits_model, place)
        exact = here.run_model(part, images_NHWC)
        seen = here.run_model(making.remake(part), model_input(images_NHWC, making.input_type))
        snr_db = signal_to_noise_db(exact, seen.reshape(exact.shape) - exact)
        found.append(LossyBlock(index, net.blocks[index].key, snr_db))
        if snr_db < least_db:
            return found[-1]
    return min(found, key=lambda block: block.snr_db)
