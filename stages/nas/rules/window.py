"""REINFORCE within a latency window: no latency multiplier, no moving baseline.

ProxylessNAS's second estimator (arXiv 1812.00332, section 3.3.1) with three changes. Paths are drawn
conditioned on the target's window, so that none is above the target and latency needs no price. The paths of
a step are different ones, evaluated on the same images. A path's advantage is its value less the mean of the
others' there: a batch's difficulty, which varies as much as networks do, drops out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.nas.latency_window import LatencyWindow
from stages.nas.rules.base import Rows, normalised, target_of_step, uniform

if TYPE_CHECKING:
    from stages.nas.path_values import Array, Evaluations, Integers

SQUARES_DECAY, TINY = 0.999, 1e-8
"""Adam's second moment (arXiv 1412.6980); there is no first one, as in the paper's ``betas (0, 0.999)``."""


@dataclass
class _Adam:
    """Logits of one target, and the averages of their squared gradients."""

    logits: Rows
    squares: Rows
    steps: int = 0

    def follow(self, gradient: Rows, rate: float) -> None:
        import numpy as np

        self.steps += 1
        correction = 1 - SQUARES_DECAY**self.steps
        for logits, squares, slope in zip(self.logits, self.squares, gradient, strict=True):
            squares *= SQUARES_DECAY
            squares += (1 - SQUARES_DECAY) * slope**2
            logits += rate * slope / (np.sqrt(squares / correction) + TINY)
            logits -= logits.mean()


@dataclass
class WindowRule:
    """See :class:`stages.nas.rules.base.PathRule`. Each target learns from its own steps."""

    windows: Sequence[LatencyWindow]
    paths_per_step: int
    learning_rate: float
    seed: int
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        import numpy as np

        self.sizes = [len(row) for row in self.windows[0].costs_ms]
        self._targets = [
            _Adam(uniform(self.sizes), [np.zeros(size) for size in self.sizes]) for _ in self.windows
        ]

    def draw(self) -> Integers:
        """The paths of the next step, (k, L)."""
        import numpy as np

        target = target_of_step(self.step, len(self.windows))
        random = np.random.default_rng([self.seed, self.step])
        return self.windows[target].draw(self._targets[target].logits, self.paths_per_step, random)

    def learn(self, paths_KL: Integers, values_K: Array) -> None:
        """Follow the mean of ``advantage * d log p(path)``.

        Advantages of a step add up to nothing, and with them the part of the gradient that all paths share.
        """
        import numpy as np

        target = self._targets[target_of_step(self.step, len(self.windows))]
        self.step += 1
        count = len(paths_KL)
        if count < 2:
            return
        advantage_K = (values_K - values_K.mean()) * count / (count - 1)
        gradient = [
            np.bincount(paths_KL[:, layer], advantage_K, minlength=size) / count
            for layer, size in enumerate(self.sizes)
        ]
        target.follow(gradient, self.learning_rate)

    def log_probabilities(self, target: int = 0) -> Rows:
        """Of every candidate, for the window of that number."""
        return normalised(self._targets[target].logits)

    def evaluations(self) -> Evaluations | None:
        """None: what was learned is in the logits."""
        return None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        targets = [
            {
                "logits": [row.tolist() for row in target.logits],
                "squares": [row.tolist() for row in target.squares],
                "steps": target.steps,
            }
            for target in self._targets
        ]
        return {"step": self.step, "targets": targets}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        import numpy as np

        self.step = int(state["step"])
        self._targets = [
            _Adam(
                [np.array(row, dtype=float) for row in target["logits"]],
                [np.array(row, dtype=float) for row in target["squares"]],
                int(target["steps"]),
            )
            for target in state["targets"]
        ]
