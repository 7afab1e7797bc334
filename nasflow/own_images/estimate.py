"""About how long training on images of one's own takes, said before anything is trained."""

from __future__ import annotations

from stages.space.search_space import SearchSpace

SECONDS_PER_MAC = 4.8e-10
"""Core seconds that training takes for an image and a multiplication of its network, forward and backward:
four networks of lite0 and proxyless_mobile, 128 and 224 pixels, batch 16, float32 on one core of an Intel
server took 4.6e-10 to 6.6e-10. Other processors differ by a factor of two or more."""
EVALUATION = 1 / 3
"""Of the time of training on an image: a backward pass takes about two forward passes."""
_USE_OF_CORES = 0.75


def wall_seconds(core_seconds: float, cores: int) -> float:
    """On so many cores, which are never all busy."""
    return core_seconds / max(1.0, _USE_OF_CORES * cores)


def search_passes(warmup_epochs: float, epochs: float) -> float:
    """A search's passes over the images in steps of the weights."""
    return warmup_epochs + epochs


def largest_macs(space: SearchSpace) -> float:
    """Multiplications of the largest network."""
    return _fixed(space) + sum(max(b.macs for b in layer.blocks if b) for layer in space.layers())


def typical_macs(space: SearchSpace) -> float:
    """Multiplications half way between the smallest network without skips and the largest."""
    smallest = _fixed(space) + sum(min(b.macs for b in layer.blocks if b) for layer in space.layers())
    return (smallest + largest_macs(space)) / 2


def _fixed(space: SearchSpace) -> float:
    return sum(block.macs for block in space.fixed_blocks())
