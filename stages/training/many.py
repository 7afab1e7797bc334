"""Train several networks by one recipe, one after another; each is kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.events import Event, Progress
from pipeline.stage import Context
from stages.data.config import DataConfig, open_dataset
from stages.documents import Role, TrainedNetwork, TrainedNetworks
from stages.nn.network import Network, load_weights
from stages.seeds import TrainingStream, derived_seed
from stages.space.search_space import NetConfig
from stages.training.loop import train
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime


@dataclass(frozen=True)
class Job:
    """One network to train; without ``weights`` from a fresh initialisation."""

    name: str
    role: Role
    net: NetConfig
    weights: bytes | None


def train_all(
    jobs: Sequence[Job], recipe: Recipe, data: DataConfig, seed: int, context: Context
) -> TrainedNetworks:
    """Train all jobs with the same images in the same order. Raises TrainingDivergedError."""
    runtime = start_runtime(seed)
    training = open_dataset(data).load("train").batches(recipe.batch_size, runtime.device)
    validation = open_dataset(data).load("choice").batches(500, runtime.device)
    done = []
    for index, job in enumerate(jobs):
        torch.manual_seed(
            derived_seed(seed, TrainingStream.FRESH_WEIGHTS)
        )  # equal random state for each job's fresh weights
        network = Network(job.net)
        if job.weights is not None:
            load_weights(network, job.weights)
        outcome = train(
            network,
            training,
            validation,
            recipe,
            seed=derived_seed(seed, TrainingStream.BATCHES),
            name=job.name,
            context=one_of_many(context, index, len(jobs)),
            runtime=runtime,
        )
        context.say(f"{job.name}: {outcome.validation_accuracy_percent:.2f} % on validation images.")
        done.append(
            TrainedNetwork(
                name=job.name,
                role=job.role,
                net=job.net,
                weights=context.store.put_bytes(outcome.weights, ".safetensors"),
                origin="fresh" if job.weights is None else "inherited",
                images_seen=outcome.images_seen,
                curve=outcome.curve,
                best_epoch=outcome.best_epoch,
                validation_accuracy_percent=outcome.validation_accuracy_percent,
                seconds=sum(point.seconds for point in outcome.curve),
                compute_cost=outcome.compute_cost,
                made_by=outcome.made_by,
            )
        )
    return TrainedNetworks(networks=tuple(done))


def one_of_many(context: Context, index: int, total: int) -> Context:
    """A context whose progress counts the jobs before this one."""

    def emit(event: Event) -> None:
        if isinstance(event, Progress):
            done = index * event.total + event.done
            event = Progress(event.stage, done, total * event.total, event.unit, event.note)
        context.emit(event)

    return Context(context.stage, context.fingerprint, context.store, context.scratch, emit)
