"""What a run will train: networks, epochs, steps and images of every stage that trains, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasflow.assemble import build_stages, resolve_data
from nasflow.commands.project import Project
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from stages.baseline import Baseline
from stages.data.config import DataConfig, SizedData, open_dataset
from stages.data.dataset import Part
from stages.documents import PrunedNetworks
from stages.finetune import Finetune
from stages.prune import Prune
from stages.search import Search
from stages.space import load_space
from stages.space.search_space import NetConfig

Trains = (Search, Prune, Finetune, Baseline)
IMAGENET_CLASSES, IMAGENET_IMAGES = 1000, 1_281_167
IMAGES_OF_A_CLASS = 1000
"""Assumed where neither the images nor their number is known."""
CHOICE_SHARE = 0.1


@dataclass(frozen=True)
class PlannedTraining:
    """Trainings of one kind. ``epochs``, ``steps`` and ``images`` are those of each network.

    ``networks``: how many. ``net``: what is trained; of the search the network of a path in the middle.
    ``architecture_steps``, ``architecture_images``: steps on other images, for the architecture alone.
    ``assumed``: the networks are not known before the search, and a path in the middle stands for them.
    """

    stage: str
    what: str
    networks: int
    epochs: int
    steps: int
    images: int
    net: NetConfig
    architecture_steps: int = 0
    architecture_images: int = 0
    assumed: bool = False

    @property
    def of_supernet(self) -> bool:
        """Whether all networks of the space learn at once."""
        return self.stage == Search.name


@dataclass(frozen=True)
class Images:
    """How many images the parts hold; ``assumed``: in words, where they are not here to be counted."""

    train: int
    architecture: int
    choice: int
    assumed: str = ""


def counted_images(stages: Sequence[Stage]) -> Images:
    """The parts of the data set that the stages read. Raises what reading it raises."""
    data: DataConfig = next(stage.data for stage in stages if isinstance(stage, Trains))
    counts: Mapping[Part, int] = open_dataset(data).counts
    return Images(counts["train"], counts["architecture"], counts["choice"])


def stages_without_images(project: Project) -> tuple[tuple[Stage, ...], Images]:
    """The stages of a project whose images are not here, and how many images they are taken to have.

    Classes and resolution are the space's own. Raises UsageError.
    """
    config, base_dir = project.config, project.base_dir
    space = load_space(config.space, base_dir)
    data = resolve_data(config.data, base_dir)
    sized = {**dict(data), "resolution": space.resolution, "channels": space.input_channels}
    fitted = space, SizedData.model_validate(sized)
    stages = build_stages(config, base_dir, project.open_device(), fitted)
    whole = IMAGENET_IMAGES if space.classes == IMAGENET_CLASSES else IMAGES_OF_A_CLASS * space.classes
    architecture = _amount(data.architecture_images, whole)
    choice = architecture if data.choice_images is None else _amount(data.choice_images, whole)
    if data.train_images is not None:
        assumed = "as data.train_images says"
        return stages, Images(data.train_images, architecture, choice, assumed)
    of = "of ImageNet-1k" if space.classes == IMAGENET_CLASSES else f"a thousand for each of {space.classes}"
    assumed = f"{whole:,} ({of}) without {architecture + choice:,} for architecture and choice"
    return stages, Images(max(1, whole - architecture - choice), architecture, choice, assumed)


def _amount(amount: float | None, of: int) -> int:
    amount = CHOICE_SHARE if amount is None else amount
    return int(amount) if amount >= 1 else int(amount * of)


def known_networks(pipeline: Pipeline, stages: Sequence[StageStatus]) -> PrunedNetworks | None:
    """What was found, where that stage is up to date."""
    for status in stages:
        if status.name == Prune.name and status.fresh and status.record is not None:
            return pipeline.store.document(status.record, PrunedNetworks)
    return None


def planned_trainings(
    stages: Sequence[Stage], images: Images, found: PrunedNetworks | None = None
) -> list[PlannedTraining]:
    """Every training of ``stages``, in their order."""
    return [training for stage in stages for training in _of_stage(stage, images, found)]


def _of_stage(stage: Stage, images: Images, found: PrunedNetworks | None) -> Iterator[PlannedTraining]:
    if isinstance(stage, Search):
        yield from _of_search(stage, images)
    elif isinstance(stage, Finetune):
        passes = _passes(stage.config.epochs, images.train, stage.config.batch_size)
        if found is None:
            net = stage.space.network(stage.space.middle_path())
            what = "found and others"
            yield PlannedTraining(stage.name, what, stage.networks, **passes, net=net, assumed=True)
        for network in () if found is None else (found.found, *found.randoms, *found.front):
            yield PlannedTraining(stage.name, network.name, 1, **passes, net=network.net)
    elif isinstance(stage, Baseline):
        passes = _passes(stage.recipe.epochs, images.train, stage.recipe.batch_size)
        for name, net in stage.all_networks():
            yield PlannedTraining(stage.name, name, 1, **passes, net=net)


def _of_search(stage: Search, images: Images) -> Iterator[PlannedTraining]:
    config, net = stage.config, stage.space.network(stage.space.middle_path())
    if config.warmup_epochs:
        passes = _passes(config.warmup_epochs, images.train, config.batch_size)
        yield PlannedTraining(stage.name, "supernet, warm-up", 1, **passes, net=net)
    passes = _passes(config.epochs, images.train, config.batch_size)
    steps = config.epochs * (passes["steps"] // config.epochs // config.architecture_every)
    yield PlannedTraining(
        stage.name,
        "supernet, search",
        1,
        **passes,
        net=net,
        architecture_steps=steps,
        architecture_images=steps * min(config.architecture_batch_size, images.architecture),
    )


def _passes(epochs: int, images: int, batch_size: int) -> dict[str, Any]:
    """As loops and batches have it: the last, incomplete batch of an epoch is left out."""
    size = min(batch_size, images)
    steps = epochs * (images // size)
    return {"epochs": epochs, "steps": steps, "images": steps * size}
