"""How alike blocks are: by how much one block's change of speed on another device tells another's.

A device differs from another in its clock, which changes all blocks alike; in how fast it is at each kind
of work (depthwise or dense convolutions, memory); in what sizes suit its caches and vector units, which
blocks of similar kernel and width share; and in ways that each block has for itself. The prior of an adapted
latency model has these four parts: a Gaussian process over the logarithm of the ratio of times, new over old
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.latency.table_check import block_kinds, depthwise_share
from stages.space.block_spec import BlockSpec

COMMON_SD = 3.0
"""Of the ratio's logarithm that all blocks share: a device may be 20 times as fast or as slow."""
INVOCATION_SD = 0.5
"""Of what every invocation costs, beside the common part: it depends on the driver, not on the chip."""
_OCTAVES = (1.0, 1.0, 2.0, 2.0, 2.0, 1.0)
"""How far kernel, expansion, channels in and out, resolution and stride reach, in factors of two."""


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the ratio's logarithm, by its parts."""

    kind: float
    size: float
    own: float


@dataclass(frozen=True)
class Likeness:
    """Correlations (B + 1, B + 1) of each part over B blocks, and last of all what an invocation costs."""

    kind: NDArray[np.float64]
    size: NDArray[np.float64]
    own: NDArray[np.float64]
    fixed: NDArray[np.float64]

    def covariance(self, spread: Spread) -> NDArray[np.float64]:
        """Prior covariance (B + 1, B + 1) of the ratios' logarithms."""
        return self.fixed + spread.kind**2 * self.kind + spread.size**2 * self.size + spread.own**2 * self.own


def likeness_of(blocks: Sequence[BlockSpec]) -> Likeness:
    """What is known of blocks before any is timed on the new device.

    The kind is told twice: by what bounds a block (:func:`stages.latency.table_check.block_kinds`), and by
    the share of its time that its depthwise convolution takes, as most blocks are some of both.
    """
    kinds = block_kinds(blocks)
    names = np.array([kinds[block.key] for block in blocks])
    shares = np.array([depthwise_share(block) for block in blocks])
    shares = shares - shares.mean()
    sizes = np.array([_size(block) for block in blocks]) / np.array(_OCTAVES)
    apart = ((sizes[:, None] - sizes[None]) ** 2).sum(axis=-1)
    fixed = np.full((len(blocks) + 1, len(blocks) + 1), COMMON_SD**2)
    fixed[-1, -1] += INVOCATION_SD**2
    return Likeness(
        kind=_with_invocation(0.5 * (names[:, None] == names[None]) + 2.0 * np.outer(shares, shares)),
        size=_with_invocation(np.exp(-0.5 * apart)),
        own=_with_invocation(np.eye(len(blocks))),
        fixed=fixed,
    )


def _size(block: BlockSpec) -> tuple[float, ...]:
    sizes = (block.kernel, block.expansion, block.in_channels, block.out_channels, block.resolution)
    return (*map(math.log2, sizes), float(block.stride - 1))


def _with_invocation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(matrix, (0, 1))
