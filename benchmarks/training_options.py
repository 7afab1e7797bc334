"""Do drop path, averaged weights and distillation pay for networks and trainings like ours?

All trainings are the product's own (:func:`stages.training.loop.train`, and the search's steps). Photos:
EfficientNet-Lite0's plan with 3x3 kernels and expansion 3 everywhere, cut out of the published network and
fine-tuned at 128 pixels as examples/few_photos does, on Debian's tuxpaint-stamps-default, of which another
third is tested each time. Clothes: a network of the quick start's space from random weights. Each is trained
with one option changed at a time, on the same images in the same order; and the quick start's supernet with
and without in-place distillation. Accuracies are those of images that no training and no choice has seen.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks._pictures import PHOTOS
from benchmarks._report import Outcome, main, say
from pipeline.events import Event
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.data.dataset import Part
from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nas.search_loop import SearchLoop
from stages.nn.network import Network, load_network
from stages.space import SpaceConfig, load_space
from stages.space.search_space import SearchSpace
from stages.training.distillation import FULL, TeacherConfig
from stages.training.loop import train
from stages.training.optimisation import evaluate
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime
from stages.training.starting import FittedStart, with_teacher

RESOLUTION, FOLDS, NEVER = 128, 3, float("inf")
OPTIONS: Mapping[str, Mapping[str, Any]] = {"drop_path": {"drop_path": 0.2}, "no_average": {"ema_decay": 0.0}}


def trained_accuracy(
    network: Network, data: DataConfig, recipe: Recipe, unseen: Part, seed: int, *, pretrained: bool
) -> float:
    """Train as a run does; the accuracy, in percent, of what it keeps."""
    runtime, dataset = start_runtime(seed, accelerator="cpu", checkpoint_seconds=NEVER), open_dataset(data)
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(
            network,
            runtime.batches(dataset.load("train"), recipe.batch_size),
            runtime.batches(dataset.load("choice"), 500),
            recipe,
            seed=seed,
            name="network",
            context=_context(folder),
            runtime=runtime,
            pretrained=pretrained,
        )
    images = runtime.batches(dataset.load(unseen), 500)
    return evaluate(load_network(network.net, outcome.weights), images.in_order()).accuracy_percent


def of_photos(folder: Path, epochs: int, seed: int, options: Mapping[str, Any]) -> float:
    """A network cut out of the published one, fine-tuned on two thirds of the photos."""
    settings = {"source": "folder", "path": str(folder), "folds": FOLDS, "fold": seed, "workers": 0}
    data = SizedData.model_validate({**settings, "resolution": RESOLUTION})
    fitting = {"resolution": RESOLUTION, "classes": len(open_dataset(data).class_names)}
    space = load_space(SpaceConfig(name="lite0")).model_copy(update=fitting)
    space = SearchSpace.model_validate(space.model_dump())
    recipe = Recipe(epochs=epochs, batch_size=32, warmup_epochs=1, ema_decay=0.99).model_copy(update=options)
    recipe = with_teacher(recipe, space, data, seed)
    network = FittedStart(space, data, seed).network(space.network([0] * len(space.layers())))
    return trained_accuracy(network, data, recipe, "test", seed, pretrained=True)


def of_clothes(images: int, epochs: int, seed: int, options: Mapping[str, Any]) -> float:
    """A middle network of the quick start's space from random weights, on Fashion-MNIST."""
    space = load_space(SpaceConfig())
    torch.manual_seed(seed)
    network = Network(space.network([3 % len(layer.blocks) for layer in space.layers()]))
    recipe = Recipe(epochs=epochs).model_copy(update=options)
    data = DataConfig(train_images=images)
    return trained_accuracy(network, data, recipe, "architecture", seed, pretrained=False)


def of_supernet(images: int, epochs: int, seed: int, options: Mapping[str, Any]) -> float:
    """The quick start's supernet after its warm-up: the accuracy of random paths, in percent."""
    space, dataset = load_space(SpaceConfig()), open_dataset(DataConfig(train_images=images))
    config = SearchConfig(warmup_epochs=epochs, epochs=1).model_copy(update=options)
    runtime = start_runtime(seed, accelerator="cpu", checkpoint_seconds=NEVER)
    costs = [[0.0 if block is None else block.macs for block in layer.blocks] for layer in space.layers()]
    architecture = Architecture(costs, fixed_ms=1.0)
    target = LatencyTarget(architecture.slowest_ms, LatencyWindow(costs, 0.0, architecture.slowest_ms))
    with tempfile.TemporaryDirectory() as folder:
        loop = SearchLoop(
            config,
            space,
            seed,
            architecture,
            [target],
            _context(folder),
            runtime,
            runtime.batches(dataset.load("train"), config.batch_size),
            runtime.batches(dataset.load("architecture"), config.architecture_batch_size),
        )
        result = loop.to_the_end()
    return result.history[epochs - 1].validation_accuracy_percent


def _context(folder: str) -> Context:
    def ignore(_event: Event) -> None:
        """Nobody listens."""

    return Context("benchmark", "0" * 64, Store(Path(folder), ignore), FleetingScratch(), ignore)


def compared(
    name: str,
    seeds: int,
    accuracy: Callable[[int, Mapping[str, Any]], float],
    options: Mapping[str, Mapping[str, Any]],
) -> dict[str, float]:
    """The plain recipe's mean accuracy over seeds, and what each option adds, with the least and greatest."""
    plain = [accuracy(seed, {}) for seed in range(seeds)]
    figures = {f"{name}_accuracy_percent": mean(plain)}
    say(f"{name}: {figures[f'{name}_accuracy_percent']:.2f} %")
    for option, changed in options.items():
        points = [accuracy(seed, changed) - plain[seed] for seed in range(seeds)]
        say(f"{name}, {option}: {', '.join(f'{point:+.2f}' for point in points)} points")
        figures |= {
            f"{name}_{option}_points": mean(points),
            f"{name}_{option}_points_least": min(points),
            f"{name}_{option}_points_greatest": max(points),
        }
    return figures


def run(full: bool) -> Outcome:
    """Measure all; nothing is asserted."""
    torch.set_num_threads(1)
    seeds, photo_epochs, images, epochs = (3, 20, 20_000, 6) if full else (2, 6, 5_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        links = PHOTOS.link(Path(folder))
        options = {**OPTIONS, "teacher": {"teacher": TeacherConfig(network=FULL)}}
        photos = compared("photos", seeds, partial(of_photos, links, photo_epochs), options)
    clothes = compared("clothes", seeds, partial(of_clothes, images, epochs), OPTIONS)
    in_place = {"in_place": {"distillation": "in_place"}}
    supernet = compared("supernet", seeds, partial(of_supernet, images, epochs), in_place)
    return Outcome(figures={**photos, **clothes, **supernet}, bars=[])


if __name__ == "__main__":
    sys.exit(main("training_options", run))
