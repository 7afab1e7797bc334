"""How long steps of the architecture take, as estimates count it."""

from __future__ import annotations

import pytest

from stages.nas.config import SearchConfig, architecture_cost, architecture_share


def test_each_path_is_a_forward_pass_and_a_pair_is_about_a_step_of_the_weights() -> None:
    assert architecture_cost(SearchConfig(paths_per_step=6)) == pytest.approx(2.0)
    assert architecture_cost(SearchConfig(estimator="window", paths_per_step=3)) == pytest.approx(1.0)
    assert architecture_cost(SearchConfig(estimator="two_path", paths_per_step=6)) == 1.2


def test_an_epochs_share_follows_batches_and_how_often_steps_are_taken() -> None:
    config = SearchConfig(paths_per_step=3, architecture_batch_size=128, batch_size=64, architecture_every=4)
    assert architecture_share(config, 5000) == pytest.approx(0.5)
    assert architecture_share(config, 32) == pytest.approx(0.125), "no more images than there are"
