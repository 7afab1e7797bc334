"""Whether the supernet ranks networks as their finished training does, and what so few can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from pipeline.artifact import Record
from stages.documents import Role
from stages.reporting.run_documents import RunDocuments

FEWEST_FOR_P = 4
_MOST_ENUMERATED = 8  # 40,320 orders
SIGNIFICANT = 0.05


class RankedNetwork(Record):
    """A network that was evaluated in the supernet and trained to the end. Accuracies in percent."""

    name: str
    role: Role
    supernet_accuracy_percent: float
    accuracy_percent: float


class RankAgreement(Record):
    """Kendall's rank correlation (tau-b) of supernet and finished accuracy over the trained networks."""

    networks: tuple[RankedNetwork, ...]
    tau_b: float | None = Field(description="-1..1; None where all have the same accuracy")
    p_value: float | None = Field(description="two-sided; None below 4 networks")


def rank_agreement(run: RunDocuments) -> RankAgreement:
    """Found, random and front networks: supernet accuracy (validation) beside finished accuracy (test)."""
    finished = {network.name: network.accuracy_percent for network in run.verify.networks}
    networks = tuple(
        RankedNetwork(
            name=network.name,
            role=network.role,
            supernet_accuracy_percent=network.supernet_accuracy_percent,
            accuracy_percent=finished[network.name],
        )
        for network in (run.prune.found, *run.prune.randoms, *run.prune.front)
    )
    tau_b, p_value = kendall(
        [n.supernet_accuracy_percent for n in networks], [n.accuracy_percent for n in networks]
    )
    return RankAgreement(networks=networks, tau_b=tau_b, p_value=p_value)


def kendall(first: Sequence[float], second: Sequence[float]) -> tuple[float | None, float | None]:
    """Kendall's tau-b and its two-sided p-value if all orders were equally likely.

    The p-value is exact up to 8 networks, ties or not, and beyond without ties; beyond with ties it is the
    normal approximation. None below 4 networks, where even full agreement is one order in six. No tau
    where one of the two does not tell any networks apart.
    """
    from scipy.stats import kendalltau

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None, None
    outcome = kendalltau(first, second)
    tau_b = max(-1.0, min(1.0, float(outcome.statistic)))  # rounding may lead a hair beyond
    if len(first) < FEWEST_FOR_P:
        return tau_b, None
    p_value = _enumerated(first, second) if len(first) <= _MOST_ENUMERATED else float(outcome.pvalue)
    return tau_b, min(1.0, p_value)


def _enumerated(first: Sequence[float], second: Sequence[float]) -> float:
    """Share of all orders of ``second`` that agree or disagree with ``first`` at least as much."""
    from itertools import permutations

    import numpy as np

    count = len(first)
    a, b = np.triu_indices(count, 1)
    x, y = np.asarray(first), np.asarray(second)
    orders = np.array(list(permutations(range(count))))
    signs = np.sign(x[a] - x[b])
    # Whatever the order, the ties are as many: tau-b differs by its numerator alone.
    scores = np.abs((signs * np.sign(y[orders[:, a]] - y[orders[:, b]])).sum(axis=1))
    return float((scores >= scores[0]).mean())


def smallest_p(count: int) -> float:
    """What full agreement of so many networks comes to, without ties."""
    return 2 / math.factorial(count)
