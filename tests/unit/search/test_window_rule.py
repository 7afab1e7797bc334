"""REINFORCE within a window: its gradient, what a batch adds to it, and Adam's steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.planted_values import costs, every_path, narrow_window

from stages.nas.latency_window import LatencyWindow
from stages.nas.rules.window import SQUARES_DECAY, WindowRule

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
SIZES = (3, 2, 4)
EVERYTHING = LatencyWindow(costs(0, SIZES), 0.0, 99.0)
PATHS_KL = np.array([[0, 1, 3], [2, 1, 0], [0, 0, 0]])
VALUES_K = np.array([1.0, 2.0, 6.0])


def new_rule(windows: list[LatencyWindow] | None = None, paths_per_step: int = 3) -> WindowRule:
    return WindowRule(windows or [EVERYTHING], paths_per_step, 0.1, 5)


def probabilities(rule: WindowRule, target: int = 0) -> list[Array]:
    return [np.exp(row) for row in rule.log_probabilities(target)]


def test_the_gradient_is_the_mean_of_advantage_times_what_was_taken() -> None:
    # Against the mean of the other two, paths are worth 1 - 4, 2 - 3.5 and 6 - 1.5.
    advantages = [-3.0, -1.5, 4.5]
    expected = [
        np.array([advantages[0] + advantages[2], 0.0, advantages[1]]) / 3,
        np.array([advantages[2], advantages[0] + advantages[1]]) / 3,
        np.array([advantages[1] + advantages[2], 0.0, 0.0, advantages[0]]) / 3,
    ]
    rule = new_rule()
    rule.learn(PATHS_KL, VALUES_K)
    (target,) = rule.state()["targets"]
    for row, wanted in zip(target["squares"], expected, strict=True):
        assert row == pytest.approx((1 - SQUARES_DECAY) * wanted**2, abs=1e-12)
    # Adam's first step is the learning rate, whatever the gradient's size is.
    for row, wanted in zip(rule.log_probabilities(), expected, strict=True):
        assert row - row.mean() == pytest.approx(0.1 * (np.sign(wanted) - np.sign(wanted).mean()), abs=1e-6)


def test_it_follows_adam_along_the_gradient_of_log_probabilities() -> None:
    """autograd's mean of advantage * log p(path), and torch's Adam, over some steps."""
    rule, random = new_rule(), np.random.default_rng(1)
    logits = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in SIZES]
    adam = torch.optim.Adam(logits, lr=0.1, betas=(0.0, SQUARES_DECAY), eps=1e-8, maximize=True)
    for _ in range(12):
        # All candidates in each step: one without a gradient has none, and Adam divides 0 by nearly 0.
        paths_KL = np.array([random.permutation(np.arange(4) % size) for size in SIZES]).T
        values_K = random.normal(size=4)
        rule.learn(paths_KL, values_K)
        adam.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for number, path in enumerate(paths_KL.tolist()):
            others = np.delete(values_K, number).mean()
            log_p = [row.log_softmax(0)[choice] for row, choice in zip(logits, path, strict=True)]
            total = total + (values_K[number] - others) * torch.stack(log_p).sum() / 4
        total.backward()  # type: ignore[no-untyped-call]
        adam.step()
        for row, p in zip(logits, probabilities(rule), strict=True):
            assert p == pytest.approx(row.detach().softmax(0).numpy(), abs=1e-6)


def test_what_the_images_of_a_step_add_to_all_its_paths_changes_nothing() -> None:
    """To the last bit, where adding it is exact."""
    plain, shifted = new_rule(paths_per_step=4), new_rule(paths_per_step=4)
    random = np.random.default_rng(2)
    for _ in range(30):
        paths_KL = plain.draw()
        assert (shifted.draw() == paths_KL).all()
        values_K = random.integers(-40, 40, size=len(paths_KL)) / 8
        plain.learn(paths_KL, values_K)
        shifted.learn(paths_KL, values_K + float(random.integers(-1000, 1000)))
    assert plain.state() == shifted.state()
    assert max(float(row.max()) for row in probabilities(plain)) > 0.6, "nothing was learned"


def test_a_step_of_one_path_teaches_nothing() -> None:
    rule = new_rule()
    rule.learn(PATHS_KL[:1], VALUES_K[:1])
    for row in probabilities(rule):
        assert row == pytest.approx(1 / len(row))
    assert rule.step == 1


def test_equal_values_teach_nothing() -> None:
    rule = new_rule()
    rule.learn(PATHS_KL, np.full(3, -2.5))
    for row in probabilities(rule):
        assert row == pytest.approx(1 / len(row))


def test_each_target_learns_from_its_own_steps() -> None:
    windows = [narrow_window(costs(3, SIZES), quantile, 0.5) for quantile in (0.3, 0.6, 0.9)]
    rule = new_rule(windows)
    for step, target in enumerate([0, 1, 0, 2, 0, 1]):
        before = [probabilities(rule, number) for number in range(3)]
        paths_KL = rule.draw()
        rule.learn(paths_KL, np.arange(float(len(paths_KL))))
        for number in range(3):
            moved = any(
                (a != b).any() for a, b in zip(before[number], probabilities(rule, number), strict=True)
            )
            assert moved == (number == target), f"step {step}"


def test_it_keeps_no_evaluations() -> None:
    rule = new_rule()
    rule.learn(PATHS_KL, VALUES_K)
    assert rule.evaluations() is None


def test_a_better_path_becomes_more_probable_and_a_worse_one_less() -> None:
    rule = new_rule()
    paths = every_path(SIZES)
    before = np.sum([row[paths[:, layer]] for layer, row in enumerate(rule.log_probabilities())], axis=0)
    rule.learn(PATHS_KL, VALUES_K)
    after = np.sum([row[paths[:, layer]] for layer, row in enumerate(rule.log_probabilities())], axis=0)
    change = {tuple(path): float(c) for path, c in zip(paths.tolist(), after - before, strict=True)}
    assert change[0, 0, 0] > 0 > change[2, 1, 3]
