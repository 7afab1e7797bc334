"""Find the best path of a latency window by values of candidates and of pairs of them.

Where pairs of layers matter no exact method is fast enough. Paths of the window that are good by single
layers' parts are improved, one or two layers at a time, until no such step helps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.nas.latency_window import LatencyWindow
from stages.nas.path_values import PathValues, starts_of

if TYPE_CHECKING:
    import numpy as np

    from stages.nas.path_values import Array, Integers

STARTS = 2
_TEMPERATURE = 0.1  # of the spread of a uniformly drawn network's value by single layers' parts
_LEAST_GAIN = 1e-9


def best_path(
    values: PathValues, window: LatencyWindow, random: np.random.Generator, *, starts: int = STARTS
) -> Integers:
    """The best path (L,) that was reached from ``starts`` drawn ones.

    Raises InfeasibleTargetError where the window is empty.
    """
    import numpy as np

    parts = np.split(values.layer_C, starts_of(values.sizes)[1:])
    # The spread sets the unit: what a candidate's part is, loss or points, does not matter.
    spread = float(np.sqrt(sum(part.var() for part in parts)))
    unit = max(1e-12, _TEMPERATURE * spread)
    drawn_NL = window.draw([part / unit for part in parts], starts, random)
    best_NL = np.array([improved(path_L, values, window) for path_L in drawn_NL])
    best_L: Integers = best_NL[values.value(best_NL).argmax()]
    return best_L


def improved(path_L: Integers, values: PathValues, window: LatencyWindow) -> Integers:
    """The path after the best changes of one or two layers, until none adds value within the window.

    ``path_L`` lies in it.
    """
    import numpy as np

    pair_CC, cost_C = values.pair_CC, np.concatenate(window.costs_ms)
    starts = starts_of(values.sizes)
    layer_of_C = np.repeat(np.arange(len(values.sizes)), values.sizes)
    one_layer_CC = layer_of_C[:, None] == layer_of_C[None, :]
    np.fill_diagonal(one_layer_CC, val=False)  # where a change stands for itself alone
    now_L = starts + path_L
    taken_C = now_L[layer_of_C]  # in its own layer
    added_C = values.marginal_values(path_L[None])[0]
    together_CC = _gained_together(pair_CC, taken_C, np.arange(len(taken_C)))
    while True:
        gain_C, cost_change_C = added_C - added_C[taken_C], cost_C - cost_C[taken_C]
        gain_CC = gain_C[:, None] + gain_C[None, :] + together_CC
        change_CC = cost_change_C[:, None] + cost_change_C[None, :]
        np.fill_diagonal(gain_CC, gain_C)
        np.fill_diagonal(change_CC, cost_change_C)
        total_CC = cost_C[now_L].sum() + change_CC
        allowed_CC = ~one_layer_CC & (total_CC >= window.least_ms) & (total_CC <= window.most_ms)
        gain_CC = np.where(allowed_CC, gain_CC, -np.inf)
        step = np.unravel_index(gain_CC.argmax(), gain_CC.shape)
        if not gain_CC[step] > _LEAST_GAIN * (1.0 + abs(values.mean)):
            best_L: Integers = now_L - starts
            return best_L
        for candidate in dict.fromkeys(step):
            layer = layer_of_C[candidate]
            added_C = added_C + pair_CC[candidate] - pair_CC[now_L[layer]]
            now_L[layer] = candidate
        taken_C = now_L[layer_of_C]
        changed = np.flatnonzero((layer_of_C[:, None] == layer_of_C[list(step)]).any(axis=1))
        together_CC[changed] = _gained_together(pair_CC, taken_C, changed)
        together_CC[:, changed] = together_CC[changed].T


def _gained_together(pair_CC: Array, taken_C: Integers, rows: Integers) -> Array:
    """Of these candidates: what a change to them and to another one gains over each change alone."""
    import numpy as np

    own, taken = pair_CC[rows], pair_CC[taken_C[rows]]
    gained: Array = own - taken - np.take(own, taken_C, axis=1) + np.take(taken, taken_C, axis=1)
    return gained
