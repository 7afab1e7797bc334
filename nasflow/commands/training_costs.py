"""What the trainings of a run cost on this computer: parameters, memory, hours; for people and as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nasflow.base.processes import usable_cores
from nasflow.base.text import human_bytes, human_duration
from nasflow.commands.planned_trainings import (
    Images,
    PlannedTraining,
    Trains,
    counted_images,
    known_networks,
    planned_trainings,
)
from nasflow.commands.project import Project
from nasflow.commands.training_plan import kept_pace, lengths_of, would_be_planned
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from stages.finetune import Finetune
from stages.space.search_space import SearchSpace
from stages.training.precision import bf16_hardware

if TYPE_CHECKING:
    from stages.nas.step_costs import StepTimes

EVALUATION = 1 / 3
"""Time of an image that a network is evaluated on, over one that it learns from."""
USE_OF_THREADS = 0.75
"""What a further compute thread adds to the speed of one training."""


@dataclass(frozen=True)
class Cost:
    """Of one planned training. ``device_seconds``: all its networks', of one core or one GPU.

    ``learned_bytes`` and ``activation_bytes`` add up to the highest memory of one network's training.
    """

    training: PlannedTraining
    parameters: int
    learned_bytes: int
    activation_bytes: int
    device_seconds: float

    @property
    def peak_bytes(self) -> int:
        """Of one of its networks."""
        return self.learned_bytes + self.activation_bytes


@dataclass(frozen=True)
class Costs:
    """Of all trainings of a run; ``folds``: how many such runs there are."""

    images: Images
    times: StepTimes
    costs: tuple[Cost, ...]
    folds: int
    precision: str
    side_by_side: int | None = None
    """Most trainings at a time (``training.side_by_side``)."""
    shortened: bool = False
    """Whether a run here would take fewer epochs than were asked for."""
    repeats: Mapping[str, int] = field(default_factory=dict)
    """In how many folds a stage is to be run; in all of them where it is not among these."""

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU was timed."""
        return self.times.device != "cpu"

    @property
    def device_hours(self) -> float:
        """Of cores, or of GPUs, for all folds."""
        seconds = (self._times(cost.training.stage) * cost.device_seconds for cost in self.costs)
        return sum(seconds) / 3600

    @property
    def wall_seconds(self) -> float:
        """For all folds, one after another."""
        return sum(self._times(stage) * self.seconds_of(stage) for stage in self._stages)

    def _times(self, stage: str) -> int:
        return self.repeats.get(stage, self.folds)

    def seconds_of(self, stage: str) -> float:
        """Wall time of a stage's trainings, in one fold."""
        own = [cost for cost in self.costs if cost.training.stage == stage]
        at_once = self.times.threads if not self.on_gpu else max(1, self.times.gpus)
        alone = sum(self._alone_seconds(cost) for cost in own if cost.training.of_supernet)
        jobs = [
            cost.device_seconds / cost.training.networks
            for cost in own
            if not cost.training.of_supernet
            for _ in range(cost.training.networks)
        ]
        return alone + _side_by_side(jobs, at_once, self.side_by_side, threads=not self.on_gpu)

    def _alone_seconds(self, cost: Cost) -> float:
        return cost.device_seconds / self.times.threads

    def document(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        hours = {"gpu_hours" if self.on_gpu else "cpu_hours": round(self.device_hours, 4)}
        return {
            "device": self.times.device,
            "precision": self.precision,
            "images": {"train": self.images.train, "assumed": self.images.assumed or None},
            "timed": {
                "seconds": round(self.times.took_seconds, 1),
                "batch_sizes": list(self.times.batch_sizes),
                "threads": self.times.threads,
                "gpus": self.times.gpus,
                "supernet_image_ms": self.times.pace.supernet_image_ms,
                "architecture_image_ms": self.times.architecture_image_ms,
                "network_image_ms": self.times.pace.baseline_image_ms,
                "network_macs": self.times.pace.baseline_macs,
            },
            "folds": self.folds,
            "shortened": self.shortened,
            **hours,
            "seconds": round(self.wall_seconds, 1),
            "trainings": [self._row(cost) for cost in self.costs],
        }

    @property
    def _stages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cost.training.stage for cost in self.costs))

    def _row(self, cost: Cost) -> dict[str, Any]:
        training = cost.training
        return {
            "stage": training.stage,
            "what": training.what,
            "networks": training.networks,
            "assumed": training.assumed,
            "epochs": training.epochs,
            "steps": training.steps,
            "images": training.images,
            "architecture_steps": training.architecture_steps,
            "architecture_images": training.architecture_images,
            "parameters": cost.parameters,
            "sampled_parameters": training.net.parameters if training.of_supernet else None,
            "macs": training.net.macs,
            "learned_bytes": cost.learned_bytes,
            "activation_bytes": cost.activation_bytes,
            "peak_bytes": cost.peak_bytes,
            "device_hours": round(cost.device_seconds / 3600, 4),
        }

    def lines(self) -> list[str]:
        """A table and what it means, for people."""
        unit = "GPU-hours" if self.on_gpu else "CPU-hours"
        rows: list[tuple[str, ...]] = [
            ("trains", "networks", "epochs", "steps", "images", "parameters", "memory", unit)
        ]
        rows += [self._cells(cost) for cost in self.costs]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return [*table, *self._notes()]

    def _cells(self, cost: Cost) -> tuple[str, ...]:
        training = cost.training
        steps = f"{training.steps:,}"
        if training.architecture_steps:
            steps += f" + {training.architecture_steps:,}"
        parameters = _millions(cost.parameters)
        if training.of_supernet:
            parameters = f"{_millions(training.net.parameters)} of {parameters}"
        return (
            f"{training.stage}: {training.what}",
            f"{training.networks}",
            f"{training.epochs}",
            steps,
            f"{training.images + training.architecture_images:,}",
            f"{'~' if training.assumed else ''}{parameters}",
            human_bytes(cost.peak_bytes),
            _hours(cost.device_seconds),
        )

    def _notes(self) -> list[str]:
        notes = []
        if self.images.assumed:
            notes.append(
                f"The images are not here. Training images: {self.images.train:,}, {self.images.assumed}; "
                "'--set data.train_images=N' plans for N."
            )
        if self.shortened:
            notes.append(
                "A run takes so few epochs because this computer is slow (training.budget_minutes); "
                "'nasflow run --full-length' takes all."
            )
        notes.append(
            "Epochs, steps, images and memory are those of one network. Steps after + are the architecture's."
        )
        if any(cost.training.assumed for cost in self.costs):
            notes.append("~: found by the search; a network in the middle of the space stands for it.")
        notes.append(
            "Memory: weights, gradients, optimizer and a batch's activations, counted; PyTorch itself and "
            "waiting images come on top."
        )
        times = self.times
        where = times.device if self.on_gpu else f"this computer's CPU ({_threads(times.threads)})"
        if times.took_seconds:
            sizes = "/".join(map(str, times.batch_sizes))
            how = (
                f"from a few steps of {sizes} random images (search, architecture, training), timed in "
                f"{human_duration(times.took_seconds)}"
            )
        else:
            how = f"from steps that were timed before (training_plan.json), {usable_cores()} cores"
        if self.precision == "auto" and bf16_hardware().capable:
            how += ", in float32 (a run tries bfloat16 first)"
        wall = human_duration(self.wall_seconds)
        folds = f", {self.folds} folds" if self.folds > 1 else ""
        unit = "GPU-hours" if self.on_gpu else "CPU-hours"
        hours = _hours(3600 * self.device_hours)
        gpu = "" if self.on_gpu else " There is no GPU here: GPU-hours are not known."
        busy = busy_note() if times.took_seconds and not self.on_gpu else ""
        notes.append(f"On {where}, {how}: {hours} {unit}, about {wall}{folds}.{gpu}{busy}")
        return notes


def costs_of_run(
    project: Project,
    pipeline: Pipeline,
    stages: Sequence[StageStatus],
    folds: Sequence[Sequence[StageStatus]] = (),
) -> Costs | None:
    """Of all trainings of stages that are stale; None where nothing is trained.

    ``folds``: the other folds' stages. Epochs that a run on this computer would leave out
    (``training.budget_minutes``) are left out.
    """
    stale = Counter(status.name for of_fold in (stages, *folds) for status in of_fold if not status.fresh)
    if not any(isinstance(stage, Trains) for stage in pipeline.stages if stage.name in stale):
        return None
    images = counted_images(pipeline.stages)
    # Another fold's networks are not known.
    own = any(status.name == Finetune.name and not status.fresh for status in stages)
    found = known_networks(pipeline, stages) if own else None

    def trainings(of: Sequence[Stage]) -> list[PlannedTraining]:
        return planned_trainings([stage for stage in of if stage.name in stale], images, found)

    planned = trainings(pipeline.stages)
    if not planned:
        return None
    costs = replace(costs_of(project, pipeline.stages, planned, images), repeats=stale)
    asked = project.asked or project.config
    settled = would_be_planned(asked, pipeline, images.train, costs.times.pace)
    if lengths_of(settled) == lengths_of(project.config):
        return costs
    shorter = replace(project, config=settled)
    fewer = costs_of(shorter, pipeline.stages, trainings(pipeline_of(shorter)), images, costs.times)
    return replace(fewer, shortened=True, repeats=stale)


def pipeline_of(project: Project) -> Sequence[Stage]:
    """The stages of a project whose images were looked at."""
    return project.build(project.config, project.base_dir, lambda _event: None).stages


def costs_of(
    project: Project,
    stages: Sequence[Stage],
    trainings: Sequence[PlannedTraining],
    images: Images,
    times: StepTimes | None = None,
) -> Costs:
    """Count memory, and time a few steps unless that was done. Loads PyTorch, takes seconds."""
    from stages.nas.step_costs import measure_steps, steps_of_pace, supernet_memory
    from stages.training.step_memory import network_memory

    config = project.config
    recipe, search = config.training, config.search
    space: SearchSpace = next(stage.space for stage in stages if isinstance(stage, Trains))
    if times is None:
        pace = kept_pace(project.asked or config, project.artifacts)
        reference = space.network(space.middle_path())
        times = steps_of_pace(pace, search) if pace else measure_steps(space, reference, recipe, search)
    costs = []
    of_supernet = None
    for training in trainings:
        net = training.net
        if training.of_supernet:
            of_supernet = of_supernet or supernet_memory(space, search, recipe.precision)
            memory, parameters = of_supernet, space.parameters
            milliseconds = training.images * times.pace.supernet_image_ms
            milliseconds += training.architecture_images * times.architecture_image_ms
            seconds = times.threads * 1e-3 * milliseconds
        else:
            memory, parameters = network_memory(net, recipe), net.parameters
            passed = training.images + EVALUATION * training.epochs * images.choice
            seconds = training.networks * passed * times.pace.network_seconds(net.macs)
        costs.append(Cost(training, parameters, memory.learned, memory.activations, seconds))
    folds = config.data.folds or 1
    return Costs(images, times, tuple(costs), folds, recipe.precision, recipe.side_by_side)


def _side_by_side(seconds: Sequence[float], at_once: int, most: int | None, *, threads: bool) -> float:
    """Wall time of jobs, the longest begun first; fewer jobs than cores have several threads each."""
    if not seconds:
        return 0.0
    slots = [0.0] * min(at_once, len(seconds), most or at_once)
    for job in sorted(seconds, reverse=True):
        slots[slots.index(min(slots))] += job
    each = max(1, at_once // len(seconds)) if threads else 1
    return max(slots) / (1 + USE_OF_THREADS * (each - 1))


def busy_note() -> str:
    """Whether other programs made the timed steps slower; the timing itself counts as one for each core."""
    try:
        load, cores = os.getloadavg()[0], usable_cores()
    except (AttributeError, OSError):  # not on this system
        return ""
    if load < 2 * cores:
        return ""
    named = f"{cores} core{'' if cores == 1 else 's'}"
    return f" Other programs ran meanwhile (load {load:.0f} on {named}): an idle computer takes less."


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
