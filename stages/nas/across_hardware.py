"""One search, several pieces of hardware: the network of each, and what all of them are worth.

The supernet and what was learned of its paths know no device: only latency models and probabilities are a
target's own. Probabilities of a target that was not searched for are learned from the kept evaluations
(:mod:`stages.nas.ranking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from android_bench.device import DeviceInfo, RuntimeOptions
from pipeline.artifact import Blob
from pipeline.stage import Context
from stages.documents import HardwareNetwork, HardwareTarget, LatencyModel, SearchResult
from stages.nas.config import without_evaluations
from stages.nas.path_values import likely_variances
from stages.nas.ranking import Ranking, kept_evaluations
from stages.nas.rules.posterior import agreement, posterior_of
from stages.nas.targets import TargetConfig, latency_window, path_costs_ms
from stages.space.preferences import Shares, shares_of_probabilities


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


def search_for(
    search: SearchResult,
    searched_on: str,
    latency: LatencyModel,
    target: TargetConfig,
    seed: int,
    context: Context,
) -> SearchResult:
    """The search as another device has it: its limit, and probabilities learned for it from the evaluations.

    Supernet, evaluations and epochs are those of the search, whose target is called ``searched_on``. Raises
    UsageError where it has kept no evaluations, InfeasibleTargetError.
    """
    check_evaluations(search)
    limit_ms = target.searched_ms(latency)
    rows = Ranking(target.minimum_share, seed, search, latency, context).learned(limit_ms)
    _, fixed_ms = path_costs_ms(search.space, latency)
    window = latency_window(search.space, latency, limit_ms, target.minimum_share)
    return search.model_copy(
        update={
            "target_ms": limit_ms,
            "log_probabilities": tuple(map(tuple, rows)),
            "agreement": agreement(rows),
            "further": (),
            "expected_ms": fixed_ms + window.expected_ms([np.asarray(row) for row in rows]),
            "searched_on": searched_on,
        }
    )


def hardware_networks(
    searches: Mapping[str, SearchResult],
    hardware: Sequence[Hardware],
    target: TargetConfig,
    seed: int,
    context: Context,
    picked: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> tuple[tuple[HardwareTarget, ...], tuple[HardwareNetwork, ...]]:
    """Each target's latency limit, ``target.pick_ms`` where that is set, and its most probable network.

    ``searches``: one search as each target has it (:func:`search_for`). ``target`` is applied to each: a
    ratio refers to the reference network on that device. ``picked``: the path of those targets whose network
    is picked already. Raises UsageError where the search has kept no evaluations, InfeasibleTargetError
    where a target has no network.
    """
    targets = tuple(
        HardwareTarget(
            name=one.name,
            device=one.device.model_copy(update={"serial": ""}),
            runtime=one.runtime,
            target_ms=target.picked_ms(one.model),
            interval_percent=one.model.interval_percent,
        )
        for one in hardware
    )
    found: dict[str, tuple[int, ...]] = {}
    learned: dict[str, Shares] = {}
    for one, limit in zip(hardware, targets, strict=True):
        search = searches[one.name]
        learned[one.name] = shares_of_probabilities(search.space, search.log_probabilities)
        ranking = Ranking(target.minimum_share, seed, search, one.model, context)
        found[one.name] = picked.get(one.name) or ranking.best(limit.target_ms, 1)[0]
    search = searches[hardware[0].name]
    losses = estimated_losses(search, found, context)
    return targets, tuple(
        HardwareNetwork(
            target=name,
            choices=choices,
            net=search.space.network(choices),
            estimated_loss=losses[name],
            learned=learned[name],
        )
        for name, choices in found.items()
    )


def check_evaluations(search: SearchResult) -> Blob:
    """Where what was learned from is kept. Raises UsageError where the search has kept nothing."""
    if search.evaluations is None:
        raise without_evaluations(search.estimator)
    return search.evaluations


def estimated_losses(
    search: SearchResult, networks: Mapping[str, Sequence[int]], context: Context
) -> dict[str, float]:
    """What each network's loss is estimated to be, from the search's evaluations. Raises UsageError."""
    seen = kept_evaluations(check_evaluations(search), context)
    sizes = [len(layer.blocks) for layer in search.space.layers()]
    # With what each step's images add: networks of the same loss were evaluated in easy steps and hard ones.
    values = posterior_of(seen, sizes, likely_variances(seen, sizes)).mean()
    paths_NL = np.array([list(choices) for choices in networks.values()], dtype=np.int64)
    return dict(zip(networks, (-values.value(paths_NL)).tolist(), strict=True))
