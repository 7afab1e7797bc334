"""Do drop path and averaged weights pay for networks and trainings like ours?

Photos: EfficientNet-Lite0 from its published weights, fine-tuned at 128 pixels as examples/few_photos does,
on Debian's tuxpaint-stamps-default, of which another third is left out each time. Clothes: a network of the
quick start's space from random weights. Each is trained with and without drop path on the same images in the
same order; the averaged and the last weights of every training are evaluated on images it has not seen.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from benchmarks._pictures import PHOTOS
from benchmarks._report import Outcome, main, say
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.data.dataset import Batches, Dataset
from stages.nn.blocks import to_channels_last
from stages.nn.network import Network
from stages.space import SpaceConfig, load_space
from stages.training.drop_path import DropPath
from stages.training.loop import EMA_EVERY
from stages.training.optimisation import AveragedWeights, evaluate, learning_rate, set_learning_rate, sgd
from stages.training.recipe import Recipe
from stages.training.starting import pretrained_full

RATES = (0.0, 0.2)
RESOLUTION, FOLDS = 128, 3
CPU = torch.device("cpu")
Result = tuple[float, float, float]
"""Accuracy of the averaged and of the last weights in percent; the mean training loss of the last epoch."""


def trained(
    network: Network, training: Batches, unseen: list[tuple[Tensor, Tensor]], recipe: Recipe, seed: int
) -> Result:
    """Train as :mod:`stages.training.loop` does, and keep both weights of the last epoch."""
    to_channels_last(network)
    optimizer, average = sgd(network, recipe), AveragedWeights(network, recipe.ema_decay)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    drop_path = DropPath(network, recipe.drop_path, seed)
    steps = len(training)
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        network.train()
        losses = []
        for step, (x_NCHW, labels_N) in enumerate(training.training(seed, epoch), start=epoch * steps):
            drop_path.begin_step(step, slice(0, len(x_NCHW)), len(x_NCHW))
            set_learning_rate(optimizer, learning_rate(recipe, step, steps, recipe.epochs))
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(network(x_NCHW), labels_N)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if (step % steps + 1) % min(EMA_EVERY, steps) == 0:
                average.update()
    averaged = Network(network.net)
    averaged.load_state_dict(average.tensors)
    to_channels_last(averaged)
    accuracies = [evaluate(weights, unseen).accuracy_percent for weights in (averaged, network)]
    return accuracies[0], accuracies[1], mean(losses)


def of_photos(folder: Path, epochs: int, seed: int, rate: float) -> Result:
    """The published network, fine-tuned on two thirds of the photos."""
    settings = {"source": "folder", "path": str(folder), "folds": FOLDS, "fold": seed, "workers": 0}
    data = SizedData.model_validate({**settings, "resolution": RESOLUTION})
    dataset = open_dataset(data)
    space = load_space(SpaceConfig(name="lite0")).model_copy(
        update={"resolution": RESOLUTION, "classes": len(dataset.class_names)}
    )
    network = pretrained_full(type(space).model_validate(space.model_dump()), data, seed)
    recipe = Recipe(epochs=epochs, batch_size=32, learning_rate=0.01, warmup_epochs=1, ema_decay=0.99)
    recipe = recipe.model_copy(update={"drop_path": rate})
    return trained(network, _training(dataset, 32), _unseen(dataset, ("choice", "test")), recipe, seed)


def of_clothes(images: int, epochs: int, seed: int, rate: float) -> Result:
    """A middle network of the quick start's space from random weights, on Fashion-MNIST."""
    dataset, space = open_dataset(DataConfig(train_images=images)), load_space(SpaceConfig())
    torch.manual_seed(seed)
    network = Network(space.network([3 % len(layer.blocks) for layer in space.layers()]))
    recipe = Recipe(epochs=epochs, drop_path=rate)
    unseen = _unseen(dataset, ("choice", "architecture"))
    return trained(network, _training(dataset, recipe.batch_size), unseen, recipe, seed)


def _training(dataset: Dataset, batch_size: int) -> Batches:
    return dataset.load("train").batches(batch_size, CPU)


def _unseen(dataset: Dataset, parts: Iterable[str]) -> list[tuple[Tensor, Tensor]]:
    return list(chain.from_iterable(dataset.load(part).batches(200, CPU).in_order(200) for part in parts))  # type: ignore[arg-type]


def compared(name: str, seeds: int, train: Callable[[int, float], Result]) -> dict[str, float]:
    """Means over seeds, and differences with their least and greatest."""
    results: list[list[Result]] = []
    for seed in range(seeds):
        results.append([train(seed, rate) for rate in RATES])
        for rate, (averaged, last, loss) in zip(RATES, results[-1], strict=True):
            say(f"{name} {seed}, drop path {rate}: averaged {averaged:.2f} %, last {last:.2f} %")
            say(f"mean training loss {loss:.3f}")
    dropped = [with_it[0] - without[0] for without, with_it in results]
    average = [without[0] - without[1] for without, _ in results]
    return {
        f"{name}_trainings": float(len(RATES) * seeds),
        f"{name}_accuracy_percent": mean(without[0] for without, _ in results),
        f"{name}_training_loss": mean(without[2] for without, _ in results),
        f"{name}_training_loss_with_drop_path": mean(with_it[2] for _, with_it in results),
        f"{name}_drop_path_points": mean(dropped),
        f"{name}_drop_path_points_least": min(dropped),
        f"{name}_drop_path_points_greatest": max(dropped),
        f"{name}_average_points": mean(average),
        f"{name}_average_points_least": min(average),
        f"{name}_average_points_greatest": max(average),
    }


def run(full: bool) -> Outcome:
    """Measure both; nothing is asserted."""
    torch.set_num_threads(1)
    seeds, photo_epochs, images, epochs = (3, 20, 20_000, 6) if full else (2, 6, 5_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        links = PHOTOS.link(Path(folder))
        photos = compared("photos", seeds, lambda seed, rate: of_photos(links, photo_epochs, seed, rate))
    clothes = compared("clothes", seeds, lambda seed, rate: of_clothes(images, epochs, seed, rate))
    return Outcome(figures={**photos, **clothes}, bars=[])


if __name__ == "__main__":
    sys.exit(main("training_options", run))
