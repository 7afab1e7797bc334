"""Ways to the architecture's probabilities: a module each, and a line in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.estimators.base import Estimator, Searched
from stages.nas.estimators.reinforce import Reinforce
from stages.nas.estimators.two_path import TwoPath
from stages.nas.estimators.whole_paths import WholePaths
from stages.nas.rules.posterior import PosteriorRule
from stages.nas.rules.window import WindowRule

_ESTIMATORS: Mapping[str, Callable[[SearchConfig, Architecture, Searched], Estimator[Any]]] = {
    "posterior": lambda config, _architecture, searched: WholePaths(
        PosteriorRule(searched.windows, searched.steps, config.paths_per_step, searched.seed)
    ),
    "window": lambda config, _architecture, searched: WholePaths(
        WindowRule(searched.windows, config.paths_per_step, config.window_learning_rate, searched.seed)
    ),
    "two_path": TwoPath,
    "reinforce": Reinforce,
}


def make_estimator(config: SearchConfig, architecture: Architecture, searched: Searched) -> Estimator[Any]:
    """The estimator that a configuration names (``search.estimator``)."""
    return _ESTIMATORS[config.estimator](config, architecture, searched)
