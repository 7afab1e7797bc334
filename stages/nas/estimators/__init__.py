"""Ways to the architecture's gradient: a module each, and a line in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stages.nas.config import SearchConfig
from stages.nas.estimators.base import Estimator
from stages.nas.estimators.reinforce import Reinforce
from stages.nas.estimators.two_path import TwoPath

_ESTIMATORS: Mapping[str, Callable[[SearchConfig], Estimator[Any]]] = {
    "two_path": lambda _config: TwoPath(),
    "reinforce": lambda config: Reinforce(config.reinforce),
}


def make_estimator(config: SearchConfig) -> Estimator[Any]:
    """The estimator that a configuration names (``search.gradient``)."""
    return _ESTIMATORS[config.gradient](config)
