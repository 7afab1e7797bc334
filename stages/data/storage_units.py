"""Which images lie together where they cannot be reached one at a time, and an order that respects it.

An image of a compressed Parquet row group is reached by decompressing the group, one on another computer by a
request. Images in any order would cost a whole unit each. So units are drawn at random into windows, and the
images of each window are shuffled: every unit is opened once a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 2**30
"""Stored bytes that are shuffled together. A constant: an order never depends on a computer."""


@dataclass(frozen=True)
class StorageUnits:
    """``unit_N``: the unit of each image; ``bytes_U``: what each unit takes, stored."""

    unit_N: NDArray[np.int64]
    bytes_U: NDArray[np.int64]

    @property
    def order(self) -> str:
        """The name of the order; another than that of images that are all shuffled together."""
        return f"windows of {WINDOW_BYTES} bytes"

    def in_windows(
        self, shuffled_N: NDArray[np.int64], random: np.random.Generator, window_bytes: int = WINDOW_BYTES
    ) -> NDArray[np.int64]:
        """Image numbers in any order, and repeated as they may be, brought together by windows.

        Where all units fit one window, their order is that of ``shuffled_N``.
        """
        if self.bytes_U.sum() <= window_bytes:
            return np.arange(len(shuffled_N))
        drawn_U = random.permutation(len(self.bytes_U))
        window_U = np.empty(len(drawn_U), np.int64)
        window_U[drawn_U] = np.cumsum(self.bytes_U[drawn_U]) // window_bytes
        return np.argsort(window_U[self.unit_N[shuffled_N]], kind="stable")
