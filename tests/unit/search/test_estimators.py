"""Estimators: what a step evaluates, what is learned of it, and that they go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from support.gradient_toy import BLOCK_MS, MIXED, Toy
from torch import Tensor, nn

from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.estimators import make_estimator
from stages.nas.estimators.base import Estimator, Searched, SeenImages, averaged
from stages.nas.estimators.priced import PricedGradient
from stages.nas.estimators.reinforce import RewardBaseline, reinforce_gradient
from stages.nas.estimators.two_path import rescale_pairs, two_path_gradient
from stages.nas.estimators.whole_paths import WholePaths
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.training.group import ProcessGroup

ROWS = BLOCK_MS[MIXED.name]
FIXED_MS = 0.1
TARGETS = tuple(
    LatencyTarget(ms, LatencyWindow(ROWS, 0.6 * ms - FIXED_MS, ms - FIXED_MS)) for ms in (0.8, 0.5)
)
STEPS = 12
CONFIG = SearchConfig(paths_per_step=3, architecture_learning_rate=0.1, window_learning_rate=0.1)
ESTIMATORS = ("posterior", "window", "two_path", "reinforce")
EACH = pytest.mark.parametrize("name", ESTIMATORS)
WHOLE = pytest.mark.parametrize("name", ["posterior", "window"])


def new_architecture() -> Architecture:
    return Architecture(ROWS, FIXED_MS)


def new_estimator(
    name: str, architecture: Architecture, targets: Sequence[LatencyTarget] = TARGETS
) -> Estimator[Any]:
    config = CONFIG.model_copy(update={"estimator": name})
    return make_estimator(config, architecture, Searched(targets, STEPS, 7))


def take_step(estimator: Estimator[Any], architecture: Architecture, toy: Toy, number: int) -> SeenImages:
    generator = torch.Generator().manual_seed(number)
    draws = estimator.draw(architecture, generator)
    batch = torch.Generator().manual_seed(100 + number)
    x_NCHW = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=batch)
    labels_N = torch.randint(4, (6,), generator=batch)
    seen = estimator.evaluate(toy.supernet, architecture, x_NCHW, labels_N, draws)
    estimator.learn(architecture, draws, seen)
    return seen


# --- whole paths -----------------------------------------------------------------------------------


@WHOLE
def test_all_paths_of_a_step_are_evaluated_on_the_same_images_with_their_own_statistics(name: str) -> None:
    toy, architecture = Toy(), new_architecture()
    estimator = new_estimator(name, architecture)
    paths_KL = estimator.draw(architecture, torch.Generator())
    assert TARGETS[0].window.holds(np.array(paths_KL)).all()
    assert len({tuple(path) for path in paths_KL}) == len(paths_KL) == 3
    seen = estimator.evaluate(toy.supernet, architecture, toy.x_NCHW, toy.labels_N, paths_KL)
    losses, right = [], 0
    with torch.no_grad():
        for path in paths_KL:
            logits = toy.mixed([(choice, choice) for choice in path], [torch.zeros(2)] * len(path))
            losses.append(float(nn.functional.cross_entropy(logits, toy.labels_N)))
            right += int((logits.argmax(1) == toy.labels_N).sum())
    (losses_K,) = seen.learned_from
    assert losses_K.tolist() == pytest.approx(losses)
    assert seen.loss == pytest.approx(np.mean(losses))
    assert (seen.correct, seen.images) == (right, 3 * 6)


@WHOLE
def test_an_evaluation_leaves_the_supernet_and_the_architecture_as_they_were(name: str) -> None:
    toy, architecture = Toy(), new_architecture()
    estimator = new_estimator(name, architecture)
    before = {n: tensor.clone() for n, tensor in toy.supernet.state_dict().items()}
    paths_KL = estimator.draw(architecture, torch.Generator())
    estimator.evaluate(toy.supernet, architecture, toy.x_NCHW, toy.labels_N, paths_KL)
    after = toy.supernet.state_dict()
    assert all(torch.equal(tensor, after[n]) for n, tensor in before.items())
    assert all(p.grad is None and p.requires_grad for p in toy.supernet.parameters())
    assert all(float(alpha.detach().abs().max()) == 0 for alpha in architecture.alphas)


@WHOLE
def test_the_architecture_shows_the_first_targets_probabilities_and_the_others_are_told(name: str) -> None:
    toy, architecture = Toy(), new_architecture()
    estimator = cast(WholePaths, new_estimator(name, architecture))
    for number in range(STEPS):
        take_step(estimator, architecture, toy, number)
        for p, row in zip(architecture.probabilities(), estimator.rule.log_probabilities(0), strict=True):
            assert p.tolist() == pytest.approx(np.exp(row), abs=1e-6)
    (further,) = estimator.further_log_probabilities()
    assert further == [row.tolist() for row in estimator.rule.log_probabilities(1)]
    shown = [alpha.tolist() for alpha in architecture.alphas]
    assert any(
        abs(a - b) > 1e-3 for x, y in zip(further, shown, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert estimator.multiplier is None
    assert new_estimator(name, architecture, TARGETS[:1]).further_log_probabilities() == []


@WHOLE
def test_a_path_is_worth_its_negative_cross_entropy(name: str) -> None:
    architecture = new_architecture()
    estimator = cast(WholePaths, new_estimator(name, architecture))
    learned = []

    def learn(paths_KL: Any, values_K: Any) -> None:
        learned.append((paths_KL, values_K.tolist()))

    estimator.rule.learn = learn  # type: ignore[method-assign]
    losses_K = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    draws = estimator.draw(architecture, torch.Generator())
    estimator.learn(architecture, draws, SeenImages(1.0, 0, 3, (losses_K,)))
    assert learned[0][0].tolist() == draws
    assert learned[0][1] == [-2.0, -0.5, -1.0]


def test_only_the_posterior_keeps_evaluations_and_only_a_price_has_a_multiplier() -> None:
    toy = Toy()
    for name in ESTIMATORS:
        architecture = new_architecture()
        estimator = new_estimator(name, architecture)
        for number in range(3):
            take_step(estimator, architecture, toy, number)
        assert (estimator.evaluations() is not None) == (name == "posterior")
        assert (estimator.multiplier is not None) == (name in ("two_path", "reinforce"))
        assert bool(estimator.further_log_probabilities()) == (name in ("posterior", "window"))


def test_the_expected_latency_is_that_of_what_an_estimator_draws() -> None:
    """In the first target's window, or, where latency has a price, of all networks by their probability."""
    for name in ESTIMATORS:
        architecture = new_architecture()
        estimator = new_estimator(name, architecture)
        expected_ms = estimator.expected_ms(architecture)
        if name in ("two_path", "reinforce"):
            assert expected_ms == architecture.expected_ms()
        else:
            window = TARGETS[0].window
            assert window.least_ms <= expected_ms - architecture.fixed_ms <= window.most_ms


# --- with a price ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two_path", "reinforce"])
def test_the_papers_estimators_follow_their_gradients_by_adam_and_the_price_follows_the_latency(
    name: str,
) -> None:
    """Step by step what the functions say, which are tested against autograd."""
    toy, here, there = Toy(), new_architecture(), new_architecture()
    estimator = cast(PricedGradient, new_estimator(name, here))
    adam = torch.optim.Adam(there.parameters(), lr=0.1, betas=(0.0, 0.999))
    price, baseline = (
        cast(PricedGradient, new_estimator(name, there)).price,
        RewardBaseline(CONFIG.baseline_decay),
    )
    for number in range(STEPS):
        assert estimator.multiplier == price.value
        generator = torch.Generator().manual_seed(number)
        draws = estimator.draw(here, generator)  # type: ignore[attr-defined]
        batch = toy.supernet, there, toy.x_NCHW, toy.labels_N, draws
        multiplier, target_ms = price.value, TARGETS[0].target_ms
        before = [alpha.detach().clone() for alpha in there.alphas]
        if name == "two_path":
            expected = two_path_gradient(*batch, multiplier=multiplier, target_ms=target_ms)
        else:
            expected = reinforce_gradient(
                *batch, baseline=baseline, multiplier=multiplier, target_ms=target_ms
            )
        adam.step()
        if name == "two_path":
            rescale_pairs(there, before, draws)
        else:
            baseline.update(-expected.loss)
        price.update(there.expected_ms())
        seen = estimator.evaluate(toy.supernet, here, toy.x_NCHW, toy.labels_N, draws)  # type: ignore[attr-defined]
        assert (seen.loss, seen.correct, seen.images) == (expected.loss, expected.correct, expected.images)
        estimator.learn(here, draws, seen)  # type: ignore[attr-defined]
        assert all(torch.equal(a, b) for a, b in zip(here.alphas, there.alphas, strict=True))
    assert estimator.multiplier != 0.0


def test_reinforce_draws_as_many_paths_as_a_step_evaluates() -> None:
    architecture = new_architecture()
    draws = new_estimator("reinforce", architecture).draw(architecture, torch.Generator().manual_seed(0))
    assert [len(path) for path in draws] == [len(ROWS)] * 3


def test_a_target_that_every_network_meets_has_no_price() -> None:
    slowest = FIXED_MS + sum(map(max, ROWS))
    for target_ms, binding in ((1.01 * slowest, False), (0.99 * slowest, True)):
        target = LatencyTarget(target_ms, LatencyWindow(ROWS, 0.0, target_ms - FIXED_MS))
        architecture, toy = new_architecture(), Toy()
        estimator = new_estimator("two_path", architecture, [target])
        for number in range(STEPS):
            take_step(estimator, architecture, toy, number)
        assert (estimator.multiplier != 0.0) == binding


# --- the same again --------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_restored_from_json_it_goes_on_identically(name: str, stop: int) -> None:
    """With the architecture's parameters, which the search keeps; the moments of Adam are the estimator's."""
    toy, architecture = Toy(), new_architecture()
    estimator = new_estimator(name, architecture)
    for number in range(stop):
        take_step(estimator, architecture, toy, number)
    kept = json.dumps(estimator.state(), allow_nan=False)
    other = new_architecture()
    again = new_estimator(name, other)
    again.restore(json.loads(kept))
    other.load_state_dict(architecture.state_dict())
    assert json.dumps(again.state(), allow_nan=False) == kept
    for number in range(stop, STEPS):
        take_step(estimator, architecture, toy, number)
        take_step(again, other, toy, number)
        assert all(torch.equal(a, b) for a, b in zip(architecture.alphas, other.alphas, strict=True))
        assert again.state() == estimator.state()
        assert again.multiplier == estimator.multiplier
    assert again.further_log_probabilities() == estimator.further_log_probabilities()


# --- several processes -----------------------------------------------------------------------------


class Twin:
    """A group of two of which the other one saw ``other``."""

    size = 2

    def __init__(self, other: SeenImages) -> None:
        self.other = other

    def add_up(self, tensors: Sequence[Tensor], loss: Tensor) -> Tensor:
        theirs = [tensor / 2 for tensor in self.other.learned_from]
        counts = torch.tensor([self.other.correct, self.other.images], dtype=torch.float64)
        for tensor, more in zip(tensors, [*theirs, counts], strict=True):
            tensor += more
        return loss + self.other.loss / 2


@EACH
def test_what_two_processes_saw_of_half_a_batch_each_is_averaged(name: str) -> None:
    toy, architecture = Toy(), new_architecture()
    estimator = new_estimator(name, architecture)
    draws = estimator.draw(architecture, torch.Generator().manual_seed(1))
    mine, theirs = (
        estimator.evaluate(toy.supernet, architecture, toy.x_NCHW[half], toy.labels_N[half], draws)
        for half in (slice(0, 3), slice(3, 6))
    )
    theirs = SeenImages(
        theirs.loss, theirs.correct, theirs.images, tuple(t.clone() for t in theirs.learned_from)
    )
    mine = estimator.evaluate(toy.supernet, architecture, toy.x_NCHW[:3], toy.labels_N[:3], draws)
    expected = [(a + b) / 2 for a, b in zip(mine.learned_from, theirs.learned_from, strict=True)]
    both = averaged(mine, cast(ProcessGroup, Twin(theirs)))
    assert both.loss == pytest.approx((mine.loss + theirs.loss) / 2)
    assert (both.correct, both.images) == (mine.correct + theirs.correct, mine.images + theirs.images)
    assert both.learned_from
    for tensor, wanted in zip(both.learned_from, expected, strict=True):
        assert torch.allclose(tensor, wanted)
    estimator.learn(architecture, draws, both)
    if name in ("two_path", "reinforce"):
        gradients = [alpha.grad for alpha in architecture.alphas if alpha.grad is not None]
        assert all(torch.allclose(a, b) for a, b in zip(gradients, expected, strict=True)), "it was followed"
