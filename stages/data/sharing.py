"""Which images of each batch this process loads, where several train one network together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def share_of(count: int, rank: int, size: int) -> slice:
    """The part of ``count`` images that is process ``rank``'s of ``size``: count/size of them, +-1."""
    each, more = divmod(count, size)
    start = rank * each + min(rank, more)
    return slice(start, start + each + (rank < more))


@dataclass(frozen=True)
class Sharing:
    """Process ``rank`` of ``size`` that train one network together.

    ``gather``: from this process's share of a batch (n, ...) and the number of its images, the whole batch;
    all processes call it at the same time. ``beside``: how many processes of this computer load images at
    the same time, this one and other trainings included.
    """

    rank: int = 0
    size: int = 1
    gather: Callable[[Tensor, int], Tensor] | None = None
    beside: int = 1

    def of(self, count: int) -> slice:
        """This process's share of a batch of so many images."""
        return share_of(count, self.rank, self.size)


ALONE = Sharing()
