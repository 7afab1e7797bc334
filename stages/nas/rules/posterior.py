"""Probabilities that say how likely a candidate is part of the best network under a target.

From the evaluations of all steps a posterior of what candidates and pairs of them are worth is learned
(:mod:`stages.nas.path_values`). Networks are drawn from it: values are drawn jointly, and the best path of
the target's window by these values is found (Thompson sampling, Thompson 1933). A candidate's probability is
its share in such networks. Steps draw their paths from these probabilities, conditioned on the window.
At first all paths of the window are equally likely; what is evaluated then moves towards networks that may
be the best, and once it is known which one that is, its candidates have all of the probability.

Names: L layers, C candidates of all layers together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stages.nas.latency_window import LatencyWindow
from stages.nas.local_search import best_path
from stages.nas.path_values import (
    LIKELIHOOD_NETWORKS,
    Evaluations,
    Posterior,
    Variances,
    likely_variances,
    starts_of,
    step_variance,
)
from stages.nas.rules.base import Rows, target_of_step, uniform

if TYPE_CHECKING:
    import numpy as np

    from stages.nas.path_values import Array, Integers

UPDATES = 20
"""Of the posterior, in a search: their distances grow with the number of evaluations."""
FIRST_SHARE, FIRST_CONTRASTS = 1 / 20, 20  # of the steps, and differences within steps, before the first
NETWORKS, LAST_NETWORKS = 16, 64  # drawn from the posterior, at an update and at the last one
KEPT = 0.5  # weight of the probabilities before an update: fewer networks then give as steady ones
DECIDED, LAST_STARTS = 0.6, 32
"""The last update gives this share to the best path by the posterior's mean, found from so many starts: the
probabilities are to decide. Alone, shares of candidates mix what several good networks are made of."""
LEAST = 1e-3  # added to every share: what was in no drawn network may still be drawn
HALF_LIFE = 0.5  # of a search: an evaluation that is so much older counts as half an evaluation
MOST_EVALUATIONS = 10_000  # the latest are used


@dataclass
class PosteriorRule:
    """See :class:`stages.nas.rules.base.PathRule`. All targets learn from all evaluations.

    ``steps``: how many there will be.
    """

    windows: Sequence[LatencyWindow]
    steps: int
    paths_per_step: int
    seed: int
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.sizes = [len(row) for row in self.windows[0].costs_ms]
        self._paths: list[list[int]] = []
        self._values: list[float] = []
        self._steps: list[int] = []
        self._shares: list[list[float] | None] = [None] * len(self.windows)
        self._variances: Variances | None = None
        self._variances_of = 0  # so many evaluations
        self._moments = update_moments(self.steps, self.paths_per_step)

    def draw(self) -> Integers:
        """The paths of the next step, (k, L)."""
        import numpy as np

        target = target_of_step(self.step, len(self.windows))
        random = np.random.default_rng([self.seed, self.step])
        return self.windows[target].draw(self.log_probabilities(target), self.paths_per_step, random)

    def learn(self, paths_KL: Integers, values_K: Array) -> None:
        """Remember; now and then update the posterior and the probabilities."""
        self._paths += paths_KL.tolist()
        self._values += values_K.tolist()
        self._steps += [self.step] * len(paths_KL)
        for kept in (self._paths, self._values, self._steps):
            del kept[:-MOST_EVALUATIONS]
        self.step += 1
        if self.step in self._moments:
            self._update()

    def _update(self) -> None:
        import numpy as np

        random = np.random.default_rng([self.seed, self.step, 1])
        last = self.step == max(self._moments)
        seen = self.evaluations()
        known = len(seen.paths_NL)
        # Later ones change nothing, until the first are no longer kept: a long search's differences shrink.
        if self._variances is None or self._variances_of < LIKELIHOOD_NETWORKS or known == MOST_EVALUATIONS:
            self._variances, self._variances_of = likely_variances(seen, self.sizes), known
        share_TC = best_shares(
            seen,
            self.sizes,
            self._variances,
            self.windows,
            random,
            networks=LAST_NETWORKS if last else NETWORKS,
            decided=last,
        )
        for target, share_C in enumerate(share_TC):
            before = self._shares[target]
            if before is not None and not last:
                share_C = KEPT * np.array(before) + (1 - KEPT) * share_C
            self._shares[target] = share_C.tolist()

    def log_probabilities(self, target: int = 0) -> Rows:
        """Of every candidate, for the window of that number."""
        import numpy as np

        share_C = self._shares[target]
        return uniform(self.sizes) if share_C is None else of_shares(np.array(share_C), self.sizes)

    def evaluations(self) -> Evaluations:
        """The latest, an older one noisier by its age."""
        import numpy as np

        step_N = np.array(self._steps[-MOST_EVALUATIONS:], dtype=np.int64)
        age_N = (self.step - 1 - step_N) / max(1.0, HALF_LIFE * self.steps)
        return Evaluations(
            np.array(self._paths[-MOST_EVALUATIONS:], dtype=np.int64),
            np.array(self._values[-MOST_EVALUATIONS:]),
            step_N,
            2.0**age_N,
        )

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "step": self.step,
            "paths": self._paths[-MOST_EVALUATIONS:],
            "values": self._values[-MOST_EVALUATIONS:],
            "steps": self._steps[-MOST_EVALUATIONS:],
            "shares": list(self._shares),
            "variances": None if self._variances is None else asdict(self._variances),
            "variances_of": self._variances_of,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.step = int(state["step"])
        self._paths = [list(path) for path in state["paths"]]
        self._values, self._steps = list(state["values"]), list(state["steps"])
        self._shares = list(state["shares"])
        variances = state["variances"]
        self._variances = None if variances is None else Variances(**variances)
        self._variances_of = int(state["variances_of"])


def update_moments(steps: int, paths_per_step: int) -> frozenset[int]:
    """After which steps the posterior is updated; the last step is one of them."""
    import numpy as np

    contrasts = -(-FIRST_CONTRASTS // max(1, paths_per_step - 1))
    first = min(steps, max(1, round(FIRST_SHARE * steps), contrasts))
    return frozenset(round(step) for step in np.geomspace(first, steps, UPDATES))


def best_shares(
    seen: Evaluations,
    sizes: Sequence[int],
    variances: Variances,
    windows: Sequence[LatencyWindow],
    random: np.random.Generator,
    *,
    networks: int,
    decided: bool = False,
) -> list[Array]:
    """For each window: in which share of ``networks`` draws a candidate is part of the best path, (C,).

    ``decided``: the greater part of the probability is that of the best path by the posterior's mean, which
    is the most probable one then.
    """
    import numpy as np

    posterior = posterior_of(seen, sizes, variances)
    mean = posterior.mean()
    starts = starts_of(sizes)
    share_TC = [np.zeros(sum(sizes)) for _ in windows]
    for _ in range(networks):
        drawn = posterior.draw(mean, random)
        for share_C, window in zip(share_TC, windows, strict=True):
            share_C[starts + best_path(drawn, window, random)] += 1 / networks
    for share_C, window in zip(share_TC if decided else (), windows, strict=False):
        share_C *= 1 - DECIDED
        share_C[starts + best_path(mean, window, random, starts=LAST_STARTS)] += DECIDED
    return share_TC


def posterior_of(seen: Evaluations, sizes: Sequence[int], variances: Variances) -> Posterior:
    """The posterior, with a variance of what steps add: estimated from what networks leave of it."""
    first = Posterior(seen, sizes, replace(variances, step=step_variance(seen)))
    return first.under(replace(variances, step=step_variance(seen, first.mean())))


def of_shares(share_C: Array, sizes: Sequence[int]) -> Rows:
    """Log-probabilities: none is 0, so that every candidate may still be drawn."""
    import numpy as np

    rows = np.split(share_C + LEAST, starts_of(sizes)[1:])
    return [np.log(row / row.sum()) for row in rows]


def agreement(log_probabilities: Sequence[Sequence[float]]) -> float:
    """In which share of the layers a network drawn from the posterior agrees with the most probable one.

    Of the last probabilities, without the part that decides them: the mean over drawn networks and over the
    layers that have a choice, 0 to 1. Where nothing is known it is that of candidates drawn evenly.
    """
    import numpy as np

    shares = []
    for row in log_probabilities:
        if len(row) > 1:
            share = float(np.exp(max(row))) * (1 + len(row) * LEAST) - LEAST
            shares.append(min(1.0, max(0.0, (share - DECIDED) / (1 - DECIDED))))
    return sum(shares) / len(shares) if shares else 1.0


def shares_of_one_target(
    seen: Evaluations, sizes: Sequence[int], window: LatencyWindow, seed: int, *, networks: int
) -> Rows:
    """Log-probabilities of every candidate for a target that no step was drawn for.

    Raises InfeasibleTargetError where its window is empty.
    """
    import numpy as np

    variances = likely_variances(seen, sizes)
    (share_C,) = best_shares(
        seen, sizes, variances, [window], np.random.default_rng(seed), networks=networks, decided=True
    )
    return of_shares(share_C, sizes)
