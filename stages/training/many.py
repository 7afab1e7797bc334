"""Train several networks by one recipe; each is kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.stage import Context
from stages.data.config import DataConfig
from stages.documents import Origin, Role, TrainedNetwork, TrainedNetworks
from stages.space.search_space import NetConfig
from stages.space.weights_origin import WeightsOrigin
from stages.training.loop import Trained
from stages.training.recipe import Recipe
from stages.training.task import Course, Task
from stages.training.together import train_together


@dataclass(frozen=True)
class Job:
    """One network to train, from ``weights`` of some ``origin``; None: from a fresh initialisation.

    ``pretrained``: the published weights that these descend from.
    """

    name: str
    role: Role
    net: NetConfig
    weights: bytes | None
    origin: Origin = "fresh"
    pretrained: WeightsOrigin | None = None


def train_all(
    jobs: Sequence[Job], recipe: Recipe, data: DataConfig, seed: int, context: Context
) -> TrainedNetworks:
    """Train all jobs with the same images in the same order.

    Raises TrainingDivergedError, and MachineError where a training process was killed.
    """
    networks: dict[int, TrainedNetwork] = {}

    def finished(index: int, trained: Trained) -> None:
        networks[index] = network = _network(jobs[index], trained, context)
        way = (
            ""
            if network.kept_share is None
            else f", {network.kept_share:.0%} of the way from where it started"
        )
        context.say(f"{network.name}: {network.validation_accuracy_percent:.2f} % on validation images{way}.")

    tasks = [Task(job.name, job.net, job.weights, pretrained=job.pretrained is not None) for job in jobs]
    train_together(tasks, Course(recipe, data, seed), context, finished)
    return TrainedNetworks(networks=tuple(networks[index] for index in range(len(jobs))))


def _network(job: Job, trained: Trained, context: Context) -> TrainedNetwork:
    return TrainedNetwork(
        name=job.name,
        role=job.role,
        net=job.net,
        weights=context.store.put_bytes(trained.weights, ".safetensors"),
        origin=job.origin,
        pretrained=job.pretrained,
        images_seen=trained.images_seen,
        curve=trained.curve,
        best_epoch=trained.best_epoch,
        kept_share=None if trained.kept is None else trained.kept.share,
        validation_accuracy_percent=trained.validation_accuracy_percent,
        seconds=sum(point.seconds for point in trained.curve),
        compute_cost=trained.compute_cost,
        made_by=trained.made_by,
    )
