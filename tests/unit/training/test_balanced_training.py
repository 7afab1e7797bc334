"""With ``data.balance`` every class counts alike: in what is kept of a training, and in the search."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from support.memory_context import memory_context
from support.toy_search import SPACE, latency_model

from stages.data.augmentation import PRESETS
from stages.data.decoded import DecodedEachTime
from stages.data.geometry import Pixels
from stages.data.photos import Photos
from stages.data.view import View
from stages.nas.config import SearchConfig
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nas.search_loop import SearchLoop, architecture_of
from stages.nn.network import Network, load_network
from stages.training import starting
from stages.training.loop import train
from stages.training.optimisation import evaluate
from stages.training.partway import best_on_the_way
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

Balance = Literal["none", "weights", "sampling"]
EACH = pytest.mark.parametrize("balance", ["weights", "sampling"])
NET = SPACE.network((0, 0, 0, 1))
RUNTIME = start_runtime(0, accelerator="cpu")
LABELS = np.repeat(np.arange(2), (95, 5)).astype(np.int64)
"""Of a majority and of a rare class."""


def noise(number: int) -> Pixels:
    """Image ``number``; those of the rare class are a little brighter."""
    random = np.random.default_rng(number)
    return random.integers(0, 200, (32, 32, 3)).astype(np.uint8) + np.uint8(20 * LABELS[number])


def photos(balance: Balance) -> Photos:
    view = View(32, "crop", PRESETS["none"], classes=10, names=())
    source = DecodedEachTime(noise, len(LABELS))
    return Photos(source, np.arange(len(LABELS)), LABELS, view, balance, workers=0)


def state(minority_share: float) -> dict[str, torch.Tensor]:
    """Weights of a network that sees nothing, and says how many images are of the rare class."""
    torch.manual_seed(0)
    weights = Network(NET).state_dict()
    (dense,) = (name.removesuffix(".weight") for name in weights if name.endswith("dense.weight"))
    weights[f"{dense}.weight"].zero_()
    shares = torch.full((10,), 1e-9)
    shares[:2] = torch.tensor([1 - minority_share, minority_share])
    weights[f"{dense}.bias"].copy_(shares.log())
    return weights


def kept_share(balance: Balance) -> float:
    """Of the way from weights that are good on the majority alone to weights that know both classes."""
    validation = photos(balance).batches(50, RUNTIME.device)
    return best_on_the_way(NET, state(0.05), state(0.5), validation, RUNTIME)[1].share


@EACH
def test_weights_that_are_good_on_the_majority_alone_are_left(balance: Balance) -> None:
    assert kept_share("none") == 0.0
    assert kept_share(balance) == 1.0


@EACH
def test_epochs_are_compared_by_balanced_accuracy(balance: Balance) -> None:
    """Its weights hardly move: all answers are the majority's, 95 % of the images and half of the classes."""
    accuracies = {}
    for name in ("none", balance):
        images = photos(name).batches(50, RUNTIME.device)
        network = Network(NET)
        network.load_state_dict(state(0.05))
        outcome = train(
            network,
            images,
            images,
            Recipe(epochs=1, batch_size=50, learning_rate=1e-9),
            seed=0,
            name="toy",
            context=memory_context("finetune"),
            runtime=RUNTIME,
        )
        weights = load_network(NET, outcome.weights)
        assert evaluate(weights, images.in_order()).accuracy_percent == pytest.approx(95)
        accuracies[name] = outcome.validation_accuracy_percent
    assert accuracies == pytest.approx({"none": 95, balance: 50})


@EACH
def test_the_dense_layer_is_fitted_to_both_classes_alike(balance: Balance) -> None:
    def recall(of: Balance) -> float:
        torch.manual_seed(2)
        network = Network(NET).eval()
        starting._fit_dense(network, photos(of), seed=0)
        rare = torch.from_numpy(photos(of).batch_NHWC(np.flatnonzero(LABELS == 1))).permute(0, 3, 1, 2)
        with torch.no_grad():
            return float((network(rare).argmax(1) == 1).double().mean())

    assert recall("none") < recall(balance)


def loop(balance: Balance) -> SearchLoop:
    config = SearchConfig(
        warmup_epochs=0, epochs=1, batch_size=50, architecture_batch_size=100, architecture_every=1
    )
    latency = latency_model()
    architecture = architecture_of(SPACE, latency)
    rows = [row.tolist() for row in architecture.block_ms]
    return SearchLoop(
        config,
        SPACE,
        0,
        architecture,
        [LatencyTarget(1.0, LatencyWindow(rows, 0.0, 1.0))],
        memory_context("search"),
        RUNTIME,
        photos(balance).batches(50, RUNTIME.device),
        photos(balance).batches(100, RUNTIME.device),
    )


def test_an_architecture_step_counts_both_classes_alike() -> None:
    """By weights in the loss, where rare classes are not shown more often already."""
    torch.manual_seed(0)
    logits, labels = torch.randn(100, 10), torch.from_numpy(LABELS)
    each_N = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    by_class = torch.stack([each_N[labels == label].mean() for label in (0, 1)])
    assert float(loop("weights").architecture_loss(logits, labels)) == pytest.approx(float(by_class.mean()))
    for shown in ("none", "sampling"):
        assert float(loop(shown).architecture_loss(logits, labels)) == pytest.approx(float(each_N.mean()))  # type: ignore[arg-type]


def test_an_architecture_step_uses_that_loss() -> None:
    searched = loop("weights")
    x_NCHW, labels_N = next(searched.validation.in_order(100))
    path = [0] * len(SPACE.layers())
    told = []

    def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        told.append(len(labels))
        return logits.sum() * 0 + 3.0

    searched.architecture_loss = loss_of
    searched.architecture_step(x_NCHW, labels_N, [path, [0, 1, *path[2:]]])
    assert told == [100, 100]
    assert searched.now.pair_loss_sum == pytest.approx(3.0)
