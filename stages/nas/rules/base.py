"""What a rule is: it draws the paths of an architecture step, and learns from what they were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stages.nas.latency_window import LatencyWindow

if TYPE_CHECKING:
    from stages.nas.path_values import Array, Evaluations, Integers

Rows = list["Array"]
"""One row for each layer, one number for each of its candidates."""


class PathRule(Protocol):
    """Learns probabilities for several targets at once, each a window of latencies.

    A step calls ``draw``, then ``learn``. The same seed and values give the same numbers everywhere.
    """

    windows: Sequence[LatencyWindow]

    def draw(self) -> Integers:
        """The paths of the next step, (k, L): different ones of one target's window."""
        ...

    def learn(self, paths_KL: Integers, values_K: Array) -> None:
        """What these paths were worth on the same images: higher is better."""
        ...

    def log_probabilities(self, target: int = 0) -> Rows:
        """Of every candidate, for the window of that number."""
        ...

    def evaluations(self) -> Evaluations | None:
        """All that was learned from; None where the rule keeps none."""
        ...

    def state(self) -> dict[str, Any]:
        """For a checkpoint: numbers that JSON can hold."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        ...


def target_of_step(step: int, targets: int) -> int:
    """Whose window a step draws from: every second step the first one's, the others' in turn between."""
    if targets == 1 or step % 2 == 0:
        return 0
    return 1 + step // 2 % (targets - 1)


def uniform(sizes: Sequence[int]) -> Rows:
    """Log-probabilities with which all paths are equally likely."""
    import numpy as np

    return [np.full(size, -np.log(size)) for size in sizes]


def normalised(logits: Rows) -> Rows:
    """Log-probabilities of logits."""
    import numpy as np

    return [row - np.logaddexp.reduce(row) for row in logits]
