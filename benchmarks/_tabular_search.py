"""One search of the tabular space, and all that :mod:`benchmarks.search_vs_random` asks of it."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from android_bench.device import BenchmarkRequest, RuntimeOptions
from benchmarks._drift import DriftingDevice
from benchmarks.tabular_space import (
    DATA,
    Choices,
    Run,
    distinct_networks,
    one_thread,
    silent,
    tabular_latency,
    tabular_space,
    train_networks,
)
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import open_dataset
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.targets import TargetConfig
from stages.space.network_name import network_name

if TYPE_CHECKING:
    from stages.data.dataset import Batches
    from stages.nn.supernet import Supernet

Arm = Literal["search", "frozen", "shuffled_labels", "no_multiplier", "no_multiplier_reinforce"]
ARMS: tuple[Arm, ...] = ("search", "frozen", "shuffled_labels", "no_multiplier", "no_multiplier_reinforce")
NO_MULTIPLIER: tuple[Arm, ...] = ("no_multiplier", "no_multiplier_reinforce")
SEARCH = SearchConfig(warmup_epochs=2, epochs=4, learning_rate=0.025)
PICK = PruneConfig()
TARGET = TargetConfig()
NEVER = 10**9


@dataclass(frozen=True)
class Found:
    """What one search came to, and what it cost.

    ``estimated`` is in the order of ``all_choices()``. ``evaluated`` is in that of ``distinct_networks()``:
    accuracy in percent and negative cross entropy of each in the supernet, on all validation images.
    ``training`` repeats one training of the table, so that its cost is known on the same machine.
    """

    seed: int
    arm: Arm
    pick: Choices | None
    log_probabilities: list[list[float]]
    estimated: list[float]
    processor_seconds: float
    evaluated: list[tuple[float, float]] = field(default_factory=list)
    training: Run | None = None
    training_processor_seconds: float = 0.0

    @classmethod
    def parse(cls, line: str) -> Self:
        """From a line of the log."""
        read = json.loads(line)
        if read["pick"]:
            read["pick"] = tuple(read["pick"])
        if read["training"]:
            read["training"] = Run(**{**read["training"], "choices": tuple(read["training"]["choices"])})
        return cls(**read)


@cache
def all_choices() -> tuple[Choices, ...]:
    """Every path of the space, also those that give the same network."""
    return tuple(product(*(range(len(layer.blocks)) for layer in tabular_space().layers())))


@cache
def predicted_ms(choices: Choices) -> float:
    """A network's latency by the space's latency model."""
    return tabular_latency().predict_ms(tabular_space().network(choices))


@cache
def target_ms() -> float:
    """The middle one of all networks' latencies."""
    times = sorted(map(predicted_ms, distinct_networks()))
    return times[len(times) // 2]


@cache
def _choices_of(name: str) -> Choices | None:
    """The network that a timing is of; None for the reference."""
    return {network_name(choices): choices for choices in all_choices()}.get(name)


def simulated_ms(request: BenchmarkRequest) -> float:
    """True times of the device on which candidates are measured: just what the latency model predicts."""
    choices = _choices_of(request.name)
    return tabular_latency().reference.measurement.median_ms if choices is None else predicted_ms(choices)


def search_once(job: tuple[int, Arm]) -> Found:
    """The search of one seed, and what it picks.

    ``search`` is the product's own, with its pick. ``frozen``: architecture parameters that never move.
    ``shuffled_labels``: labels shuffled wherever validation images steer, in the architecture's steps and in
    the evaluations that rank networks; it gets no pick, whose final choice would look at true labels.
    ``no_multiplier``, by either gradient: latency does not count, so that the probabilities
    depend on accuracy alone; no network is evaluated or picked.
    """
    import numpy as np
    from safetensors.torch import load
    from stages.nas.evaluation import SupernetEvaluator, explore_supernet

    from stages.data.grey import GreyImages
    from stages.nas.pick import EVALUATION_BATCH_SIZE, pick_networks
    from stages.nas.search_loop import SearchLoop, architecture_of
    from stages.nn.supernet import Supernet
    from stages.seeds import derived_seed
    from stages.training.runtime import start_runtime

    seed, arm = job
    space, latency = tabular_space(), tabular_latency()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        context = Context(arm, "", Store(Path(folder), silent), FleetingScratch(), silent)
        began = time.process_time()
        runtime = start_runtime(seed)
        config, validation = SEARCH, open_dataset(DATA).load("architecture")
        assert isinstance(validation, GreyImages)
        if arm == "frozen":
            config = config.model_copy(update={"architecture_learning_rate": 0.0})
        if arm in NO_MULTIPLIER:
            config = config.model_copy(update={"multiplier_rate": 0.0, "multiplier_damping": 0.0})
        if arm == "no_multiplier_reinforce":
            config = config.model_copy(update={"gradient": "reinforce"})
        if arm == "shuffled_labels":
            labels = np.random.default_rng(seed).permutation(validation.labels)
            validation = GreyImages(validation.pixels_NHW, labels)
        architecture = architecture_of(space, latency)
        search = SearchLoop(
            config,
            space,
            seed,
            architecture,
            target_ms(),
            context,
            runtime,
            open_dataset(DATA).load("train").batches(config.batch_size, runtime.device),
            validation.batches(config.architecture_batch_size, runtime.device),
        ).to_the_end()
        log_probabilities = [list(row) for row in search.log_probabilities]
        if arm in NO_MULTIPLIER:
            return Found(seed, arm, None, log_probabilities, [], time.process_time() - began)
        pick: Choices | None = None
        if arm != "shuffled_labels":
            pick = pick_networks(
                PICK,
                TARGET,
                DATA,
                seed,
                search=search,
                latency=latency,
                device=DriftingDevice(simulated_ms, seed=seed, throttle_at=NEVER),
                runtime=RuntimeOptions(),
                context=context,
            ).found.choices
        seconds = time.process_time() - began
        supernet = Supernet(space)
        supernet.load_state_dict(load(context.store.read_bytes(search.supernet)))
        evaluation_batches = validation.batches(EVALUATION_BATCH_SIZE, runtime.device)
        values = explore_supernet(  # after a pick, its own evaluations: they are read back from the scratch
            SupernetEvaluator(supernet, evaluation_batches, context),
            [row.tolist() for row in architecture.block_ms],
            [target_ms() - architecture.fixed_ms],
            budget=PICK.evaluations,
            seed=derived_seed(seed, 3),
        ).values
        found = Found(
            seed,
            arm,
            pick,
            log_probabilities,
            values.value(np.array(all_choices())).tolist(),
            seconds,
        )
        if arm != "search":
            return found
        evaluated = [_evaluate(supernet, choices, evaluation_batches) for choices in distinct_networks()]
        began = time.process_time()
        anyone = distinct_networks()[derived_seed(seed, 9) % len(distinct_networks())]
        (training,) = train_networks([(anyone, 0)])
        training_seconds = time.process_time() - began
        return replace(
            found, evaluated=evaluated, training=training, training_processor_seconds=training_seconds
        )


def _evaluate(supernet: Supernet, choices: Choices, batches: Batches) -> tuple[float, float]:
    """Accuracy in percent and negative cross entropy, with each batch's own statistics."""
    import torch
    from torch import nn

    correct, loss, images = 0, 0.0, 0
    supernet.train()
    with torch.no_grad(), supernet.architecture_step():
        for x_NCHW, labels_N in batches.in_order(batches.batch_size):
            logits = supernet(x_NCHW, choices)
            correct += int((logits.argmax(1) == labels_N).sum())
            loss += float(nn.functional.cross_entropy(logits, labels_N, reduction="sum"))
            images += len(labels_N)
    return 100 * correct / images, -loss / images
