"""Sums over pairs by groups of layers are those over all pairs of candidates."""

from __future__ import annotations

import numpy as np
import pytest

from stages.nas.path_pairs import MOST_STATES, PathPairs
from stages.nas.path_values import one_hot


@pytest.mark.parametrize("sizes", [(2,), (3, 1, 5, 2), (7,) * 5, (3, MOST_STATES + 6, 4, 1)])
def test_forms_and_sums_are_those_of_one_hot_vectors(sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    paths_NL = np.stack([random.integers(size, size=30) for size in sizes], axis=1)
    hot_NC = one_hot(paths_NL, sizes)
    parts_CC = random.normal(size=(sum(sizes),) * 2)
    parts_CC += parts_CC.T
    weights_N = random.normal(size=30)
    pairs = PathPairs(paths_NL, sizes)
    assert pairs.hot_NC.toarray().tolist() == hot_NC.tolist()
    forms_N = np.einsum("nc,cd,nd->n", hot_NC, parts_CC, hot_NC) / 2
    assert pairs.forms(parts_CC) == pytest.approx(forms_N)
    sums_CC = np.einsum("n,nc,nd->cd", weights_N, hot_NC, hot_NC)
    assert pairs.sums(weights_N) == pytest.approx(sums_CC, abs=1e-12)
