"""From published weights only a part of the way is gone: which part, and where its weights are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from safetensors.torch import load
from support.memory_context import memory_context
from support.toy_search import EACH_STEP, SPACE
from torch import Tensor

from stages.data.config import DataConfig, open_dataset
from stages.nn.network import Network, load_network, save_weights
from stages.training.loop import Trained, train
from stages.training.optimisation import evaluate
from stages.training.partway import SHARES, best_on_the_way, between
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

DATA = DataConfig(train_images=250, architecture_images=100)
NET = SPACE.network((0, 0, 0, 1))
RUNTIME = start_runtime(0)
VALIDATION = open_dataset(DATA).load("choice").batches(50, RUNTIME.device)


def loss(weights: bytes) -> float:
    with torch.no_grad():
        return evaluate(load_network(NET, weights), VALIDATION.in_order()).loss


def trained(*, pretrained: bool, rate: float = 3e-3) -> tuple[dict[str, Tensor], Trained]:
    """The weights at the start, and what became of them."""
    torch.manual_seed(1)
    network = Network(NET)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recipe = Recipe(epochs=2, batch_size=50, pretrained_rate=rate)
    training = open_dataset(DATA).load("train").batches(50, RUNTIME.device)
    return start, train(
        network,
        training,
        VALIDATION,
        recipe,
        seed=3,
        name="toy",
        context=memory_context("finetune"),
        runtime=start_runtime(0, checkpoint_seconds=EACH_STEP),
        pretrained=pretrained,
    )


def state(seed: int) -> Mapping[str, Tensor]:
    torch.manual_seed(seed)
    return Network(NET).state_dict()


def test_both_ends_of_the_way_are_exactly_what_they_are() -> None:
    start, end = state(1), state(2)
    for share, other in ((0.0, start), (1.0, end)):
        found = between(start, end, share)
        assert found.keys() == end.keys()
        assert all(torch.equal(found[name], other[name]) for name in end)


def test_the_network_of_the_least_cross_entropy_is_taken() -> None:
    start, outcome = trained(pretrained=False)
    end = load(outcome.weights)
    weights, kept = best_on_the_way(NET, start, end, VALIDATION, RUNTIME)
    network = Network(NET)
    losses = []
    for share in SHARES:
        network.load_state_dict(between(start, end, share))
        losses.append(evaluate(network.eval(), VALIDATION.in_order()).loss)
    assert kept.share == SHARES[losses.index(min(losses))] > 0
    assert loss(weights) == pytest.approx(min(losses))
    backwards, none = best_on_the_way(NET, end, start, VALIDATION, RUNTIME)
    assert none.share == 1 - kept.share
    assert loss(backwards) == pytest.approx(min(losses))


def test_a_training_that_spoils_published_weights_is_not_taken() -> None:
    _, good = trained(pretrained=False)
    ends = load(good.weights), state(2)
    weights, kept = best_on_the_way(NET, *ends, VALIDATION, RUNTIME)
    assert kept.share == 0.0
    assert all(torch.equal(t, ends[0][name]) for name, t in load(weights).items() if t.is_floating_point())


def test_of_equal_networks_the_one_nearest_to_the_start_is_taken() -> None:
    assert best_on_the_way(NET, state(1), state(1), VALIDATION, RUNTIME)[1].share == 0.0


def test_a_training_from_published_weights_says_what_it_kept_and_one_from_fresh_weights_keeps_all() -> None:
    start, outcome = trained(pretrained=True)
    assert outcome.kept is not None
    assert outcome.validation_accuracy_percent == outcome.kept.validation_accuracy_percent
    assert loss(outcome.weights) <= loss(_packed(start))
    assert trained(pretrained=False)[1].kept is None


def _packed(weights: Mapping[str, Tensor]) -> bytes:
    network = Network(NET)
    network.load_state_dict(dict(weights))
    return save_weights(network)
