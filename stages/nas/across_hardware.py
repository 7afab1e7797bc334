"""One search, several pieces of hardware: the network of each, and what all of them are worth.

The supernet and what was learned of its paths know no device: only latency models and probabilities are a
target's own. Probabilities of a target that was not searched for are learned from the kept evaluations
(:mod:`stages.nas.ranking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from android_bench.device import DeviceInfo, RuntimeOptions
from nasflow.base.errors import UsageError
from pipeline.stage import Context
from stages.documents import HardwareNetwork, HardwareTarget, LatencyModel, PathEvaluations, SearchResult
from stages.nas.path_values import Posterior, likely_variances
from stages.nas.ranking import Ranking, evaluations_of
from stages.nas.targets import TargetConfig


class Hardware(NamedTuple):
    """A target's name and its latency model."""

    name: str
    model: LatencyModel

    @property
    def device(self) -> DeviceInfo:
        """Which device."""
        return self.model.device

    @property
    def runtime(self) -> RuntimeOptions:
        """How models are run there."""
        return self.model.runtime


def hardware_networks(
    search: SearchResult,
    hardware: Sequence[Hardware],
    target: TargetConfig,
    seed: int,
    context: Context,
) -> tuple[tuple[HardwareTarget, ...], tuple[HardwareNetwork, ...]]:
    """Each target's latency limit and its most probable network.

    ``target`` is applied to each: a ratio refers to the reference network on that device. Raises UsageError
    where the search has kept no evaluations, InfeasibleTargetError where a target has no network.
    """
    targets = tuple(
        HardwareTarget(
            name=one.name,
            device=one.device.model_copy(update={"serial": ""}),
            runtime=one.runtime,
            target_ms=target.searched_ms(one.model),
            interval_percent=one.model.interval_percent,
        )
        for one in hardware
    )
    found: dict[str, tuple[int, ...]] = {}
    for one, limit in zip(hardware, targets, strict=True):
        ranking = Ranking(target.minimum_share, seed, search, one.model, context)
        found[one.name] = ranking.best(limit.target_ms, 1)[0]
    losses = estimated_losses(search, found, context)
    return targets, tuple(
        HardwareNetwork(
            target=name,
            choices=choices,
            net=search.space.network(choices),
            estimated_loss=losses[name],
        )
        for name, choices in found.items()
    )


def estimated_losses(
    search: SearchResult, networks: Mapping[str, Sequence[int]], context: Context
) -> dict[str, float]:
    """What each network's loss is estimated to be, from the search's evaluations. Raises UsageError."""
    if search.evaluations is None:
        raise UsageError(
            f"the search by {search.estimator} has kept no evaluations, which other devices' networks are "
            "chosen by.",
            hint="Search by another estimator: --set search.estimator=posterior.",
        )
    kept = PathEvaluations.model_validate_json(context.store.read_bytes(search.evaluations))
    seen = evaluations_of(kept)
    sizes = [len(layer.blocks) for layer in search.space.layers()]
    values = Posterior(seen, sizes, likely_variances(seen, sizes)).mean()
    paths_NL = np.array([list(choices) for choices in networks.values()], dtype=np.int64)
    return dict(zip(networks, (-values.value(paths_NL)).tolist(), strict=True))
