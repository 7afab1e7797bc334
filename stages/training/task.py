"""One independent training, described so that any process can do it: this one, or one beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel

from pipeline.stage import Context
from stages.data import config as data_config
from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import Batches
from stages.documents import ComputeCost, EpochPoint, MadeBy
from stages.nn.network import Network, load_weights
from stages.seeds import TrainingStream, derived_seed
from stages.space.search_space import NetConfig
from stages.training import recipe as recipes
from stages.training.loop import Trained, train
from stages.training.partway import Kept
from stages.training.recipe import Recipe
from stages.training.runtime import CHECKPOINT_SECONDS, TrainingRuntime

EVALUATION_BATCH_SIZE = 500


@dataclass(frozen=True)
class Task:
    """One network to train; without ``weights`` from a fresh initialisation.

    ``name`` is also its checkpoint's. ``pretrained``: its weights descend from published ones, which decides
    over how they learn.
    """

    name: str
    net: NetConfig
    weights: bytes | None = None
    pretrained: bool = False


@dataclass(frozen=True)
class Course:
    """What all tasks of a stage share: recipe, images, and the seed of weights and of their order."""

    recipe: Recipe
    data: DataConfig
    seed: int
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def images(self, runtime: TrainingRuntime) -> tuple[Batches, Batches]:
        """Training images and images for choices, on the device."""
        dataset = open_dataset(self.data)
        return (
            runtime.batches(dataset.load("train"), self.recipe.batch_size),
            runtime.batches(dataset.load("choice"), EVALUATION_BATCH_SIZE),
        )


def perform(
    task: Task, course: Course, images: tuple[Batches, Batches], context: Context, runtime: TrainingRuntime
) -> Trained:
    """Do the task, or go on from its checkpoint in the context's scratch. Raises TrainingDivergedError."""
    # An equal random state for the fresh weights of each task.
    torch.manual_seed(derived_seed(course.seed, TrainingStream.FRESH_WEIGHTS))
    network = Network(task.net)
    if task.weights is not None:
        load_weights(network, task.weights)
    training, validation = images
    return train(
        network,
        training,
        validation,
        course.recipe,
        seed=derived_seed(course.seed, TrainingStream.BATCHES),
        name=task.name,
        context=context,
        runtime=runtime,
        pretrained=task.pretrained,
    )


def whole_json(record: BaseModel) -> dict[str, Any]:
    """A record as JSON, with the fields that fingerprints leave out (paths)."""
    plain = record.model_dump(mode="json")
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            plain[name] = whole_json(value)
        elif field.exclude:
            plain[name] = value
    return plain


def data_as_json(data: DataConfig) -> dict[str, Any]:
    """A data section for another process."""
    return {"kind": type(data).__name__, "settings": whole_json(data)}


def data_of_json(plain: dict[str, Any]) -> DataConfig:
    """What :func:`data_as_json` described."""
    kind: type[DataConfig] = getattr(data_config, plain["kind"])
    return kind.model_validate(plain["settings"])


def course_as_json(course: Course) -> dict[str, Any]:
    """For another process."""
    return {
        "recipe": whole_json(course.recipe),
        "recipe_kind": type(course.recipe).__name__,
        "data": data_as_json(course.data),
        "seed": course.seed,
        "checkpoint_seconds": course.checkpoint_seconds,
    }


def course_of_json(plain: dict[str, Any]) -> Course:
    """What :func:`course_as_json` described."""
    kind: type[Recipe] = getattr(recipes, plain["recipe_kind"])
    return Course(
        recipe=kind.model_validate(plain["recipe"]),
        data=data_of_json(plain["data"]),
        seed=plain["seed"],
        checkpoint_seconds=plain["checkpoint_seconds"],
    )


def task_as_json(task: Task) -> dict[str, Any]:
    """For another process; the weights travel as bytes beside it."""
    return {
        "name": task.name,
        "net": task.net.model_dump(mode="json"),
        "fresh": task.weights is None,
        "pretrained": task.pretrained,
    }


def task_of_json(plain: dict[str, Any], weights: bytes) -> Task:
    """What :func:`task_as_json` described."""
    net = NetConfig.model_validate(plain["net"])
    return Task(plain["name"], net, None if plain["fresh"] else weights, plain["pretrained"])


def trained_as_json(trained: Trained) -> dict[str, Any]:
    """For another process; the weights travel as bytes beside it."""
    return {
        "curve": [point.model_dump() for point in trained.curve],
        "best_epoch": trained.best_epoch,
        "images_seen": trained.images_seen,
        "compute_cost": trained.compute_cost.model_dump() if trained.compute_cost is not None else None,
        "made_by": [made_by.model_dump() for made_by in trained.made_by],
        "kept": None if trained.kept is None else vars(trained.kept),
    }


def trained_of_json(plain: dict[str, Any], weights: bytes) -> Trained:
    """What :func:`trained_as_json` described."""
    cost = plain["compute_cost"]
    return Trained(
        weights=weights,
        curve=tuple(EpochPoint.model_validate(point) for point in plain["curve"]),
        best_epoch=plain["best_epoch"],
        images_seen=plain["images_seen"],
        compute_cost=ComputeCost.model_validate(cost) if cost is not None else None,
        made_by=tuple(MadeBy.model_validate(made_by) for made_by in plain["made_by"]),
        kept=None if plain["kept"] is None else Kept(**plain["kept"]),
    )
