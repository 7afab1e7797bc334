"""Draw paths of a latency window: the networks that may be picked under a target, and no others.

Every layer's candidate has a logit. A path's probability is the product of its layers' softmax values,
conditioned on the sum of its candidates' latencies lying between two bounds. Messages over latency bins are
passed from the last layer to the first, paths are drawn from the first layer to the last, and a path whose
exact sum lies outside is drawn again: the bins decide how often that happens, not what is drawn.

Names: N paths, L layers, S latency bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasflow.base.errors import InfeasibleTargetError
from stages.nas.solver import best_paths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Integers = NDArray[np.int64]

BINS = (256, 2048, 16384)
_ATTEMPTS, _AT_ONCE = 12, 32
_MEAN_OF = 256  # paths


class LatencyWindow:
    """The paths between two latencies, both included; ``costs_ms[l][i]`` is at least 0."""

    def __init__(self, costs_ms: Sequence[Sequence[float]], least_ms: float, most_ms: float) -> None:
        import numpy as np

        self.costs_ms = [np.asarray(row, dtype=float) for row in costs_ms]
        self.least_ms, self.most_ms = least_ms, most_ms
        self._grids = [_Grid(self.costs_ms, least_ms, most_ms, bins) for bins in BINS]

    @property
    def empty(self) -> bool:
        """Whether there is no such path."""
        try:
            self.most_probable([0.0 * row for row in self.costs_ms])
        except InfeasibleTargetError:
            return True
        return False

    def total_ms(self, paths_NL: Integers) -> Array:
        """Summed latency of each path, (N,), added up from the first layer to the last."""
        import numpy as np

        total_N = np.zeros(len(paths_NL))
        for layer, row in enumerate(self.costs_ms):
            total_N += row[paths_NL[:, layer]]
        return total_N

    def holds(self, paths_NL: Integers) -> NDArray[np.bool_]:
        """Which of the paths lie in the window, (N,)."""
        total_N = self.total_ms(paths_NL)
        inside: NDArray[np.bool_] = (total_N >= self.least_ms) & (total_N <= self.most_ms)
        return inside

    def draw(self, logits: Sequence[Array], count: int, random: np.random.Generator) -> Integers:
        """Up to ``count`` different paths (n, L), one after another without replacement.

        Fewer where the window holds fewer, or where others are too improbable to come up; where none comes
        up, the most probable one. Raises InfeasibleTargetError where the window is empty.
        """
        import numpy as np

        drawn: dict[tuple[int, ...], None] = {}
        # Finer bins where a very probable path lies just outside: within a coarse bin it hides all others.
        for grid in self._grids:
            inside, tried = 0, 0
            for _ in range(_ATTEMPTS):
                paths_NL = grid.drawn(logits, max(_AT_ONCE, count), random)
                held_NL = paths_NL[self.holds(paths_NL)]
                inside, tried = inside + len(held_NL), tried + len(paths_NL)
                drawn |= dict.fromkeys(map(tuple, held_NL.tolist()))
                if len(drawn) >= count:
                    return np.array(list(drawn)[:count], dtype=np.int64)
            if 2 * inside > tried:  # others are improbable: finer bins would not change that
                break
        return np.array(list(drawn) or self.most_probable(logits), dtype=np.int64)

    def expected_ms(self, logits: Sequence[Array]) -> float:
        """Mean latency of the paths that are drawn, estimated from some; the same numbers give the same mean.

        Raises InfeasibleTargetError where the window is empty.
        """
        import numpy as np

        random = np.random.default_rng(0)
        for grid in self._grids:
            paths_NL = grid.drawn(logits, _MEAN_OF, random)
            held_NL = paths_NL[self.holds(paths_NL)]
            if 2 * len(held_NL) > len(paths_NL):
                break
        if not len(held_NL):
            held_NL = np.array(self.most_probable(logits), dtype=np.int64)
        return float(self.total_ms(held_NL).mean())

    def most_probable(self, logits: Sequence[Array], count: int = 1) -> list[tuple[int, ...]]:
        """The ``count`` most probable paths, exactly. Raises InfeasibleTargetError where there is none."""
        return best_paths(
            [row.tolist() for row in logits],
            [row.tolist() for row in self.costs_ms],
            at_least_ms=self.least_ms,
            at_most_ms=self.most_ms,
            count=count,
        )


@dataclass(frozen=True)
class LatencyTarget:
    """A target, and the window that it leaves to a path's candidates: without what all networks take."""

    target_ms: float
    window: LatencyWindow


class _Grid:
    """A window in whole bins, widened by what rounding to them may do."""

    def __init__(self, costs_ms: Sequence[Array], least_ms: float, most_ms: float, bins: int) -> None:
        import numpy as np

        bin_ms = most_ms / bins if most_ms > 0 else 1.0
        self._bins = [np.rint(row / bin_ms).astype(np.int64) for row in costs_ms]
        rounding = len(costs_ms) / 2  # half a bin for each layer
        self._first = max(0, int(np.floor(least_ms / bin_ms - rounding)))
        self._last = max(0, int(np.ceil(most_ms / bin_ms + rounding)))
        self._known: tuple[bytes, list[Array]] = b"", []

    def drawn(self, logits: Sequence[Array], count: int, random: np.random.Generator) -> Integers:
        """``count`` paths, drawn independently; outside of the window where it is empty."""
        import numpy as np

        at_N = np.zeros(count, dtype=np.int64)
        paths_NL = np.empty((count, len(logits)), dtype=np.int64)
        after = self._messages(logits)[1:]
        for layer, (row, bins, after_S) in enumerate(zip(logits, self._bins, after, strict=True)):
            reached_NC = at_N[:, None] + bins
            left_NC = np.where(reached_NC <= self._last, after_S[np.minimum(reached_NC, self._last)], -np.inf)
            # The greatest of the logits, each with noise of Gumbel's distribution, is a draw of the softmax.
            noisy_NC = row + left_NC + random.gumbel(size=reached_NC.shape)
            paths_NL[:, layer] = noisy_NC.argmax(axis=1)
            at_N = at_N + bins[paths_NL[:, layer]]
        return paths_NL

    def _messages(self, logits: Sequence[Array]) -> list[Array]:
        """For layer l and bin s: log of the mass of layers l, l+1, ... that end in the window from s.

        Between two updates of the probabilities they stay as they are.
        """
        import numpy as np

        key = b"".join(row.tobytes() for row in logits)
        if self._known[0] == key:
            return self._known[1]
        end_S = np.full(self._last + 1, -np.inf)
        end_S[self._first :] = 0.0
        messages = [end_S]
        for row, bins in zip(reversed(logits), reversed(self._bins), strict=True):
            terms = np.full((len(row), len(end_S)), -np.inf)
            for term, logit, step in zip(terms, row, bins, strict=True):
                if step < len(end_S):
                    term[: len(end_S) - step] = messages[-1][step:] + logit
            messages.append(np.logaddexp.reduce(terms, axis=0))
        self._known = key, messages[::-1]
        return self._known[1]
