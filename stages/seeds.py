"""Seeds of what is drawn at random: from the run's one seed and the name of what is drawn.

Streams of different names are independent of each other, and none depends on how many numbers another used.
"""

from __future__ import annotations

from enum import IntEnum


class SearchStream(IntEnum):
    """What the search draws."""

    PATH = 1
    FAIR_ORDER = 2
    VALIDATION_ORDER = 3
    ARCHITECTURE = 4
    WARMUP_PROBE = 5
    FAIR_OR_LEARNED = 6


class PickStream(IntEnum):
    """What prune draws."""

    RANDOM_NETWORKS = 1
    RECALIBRATION = 2
    PROBABILITIES = 3


class TrainingStream(IntEnum):
    """What the training of a network draws."""

    FRESH_WEIGHTS = 1
    BATCHES = 2
    FITTED_IMAGES = 3
    DROP_PATH = 4
    INT8 = 5


def derived_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, well mixed (splitmix64), the same on every machine."""
    state = 0
    for part in parts:
        state = (state ^ part) + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        state = (state ^ state >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
        state ^= state >> 31
    return state >> 1
