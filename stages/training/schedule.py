"""How many independent trainings run at a time, with how many threads each, and in which order.

Small batches do not feed two threads: two trainings of one thread each are done before one after another
with two threads each. Threads depend on the number of trainings and of cores alone, so that side by side and
one after another give the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nasflow.base.processes import usable_cores
from stages.training.launch import launched_by
from stages.training.recipe import pass_seconds
from stages.training.task import Course, Task

WORTH_SECONDS = 20.0
"""Of estimated work, below which processes are not started: each spends some seconds on loading torch."""


@dataclass(frozen=True)
class Schedule:
    """``slots`` trainings at a time, each with ``threads`` compute threads; on GPUs one a GPU."""

    slots: int
    threads: int
    gpus: bool = False


def schedule(tasks: Sequence[Task], images: int, course: Course) -> Schedule:
    """For these tasks on this machine; ``images``: passed through each network in an epoch."""
    if launched_by(os.environ)[1] > 1:  # all processes train each network together
        return Schedule(1, torch.get_num_threads())
    wanted = course.recipe.side_by_side
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores, jobs = usable_cores(), max(1, len(tasks))
    if gpus:
        slots = min(jobs, gpus if wanted is None else min(wanted, gpus))
        return Schedule(slots, max(1, torch.get_num_threads() // min(jobs, gpus)), gpus=True)
    threads = max(1, torch.get_num_threads() // jobs)
    most = max(1, cores // threads)
    slots = min(jobs, most if wanted is None else wanted)
    if wanted is None and sum(estimated_seconds(task, images, course) for task in tasks) < WORTH_SECONDS:
        slots = 1
    return Schedule(slots, threads)


def estimated_seconds(task: Task, images: int, course: Course) -> float:
    """A guess for one core."""
    return course.recipe.epochs * pass_seconds(images, task.net.macs)


def longest_first(tasks: Sequence[Task]) -> list[int]:
    """Indices of the tasks in the order in which they are begun, so that all cores are busy to the end."""
    return sorted(range(len(tasks)), key=lambda index: (-tasks[index].net.macs, index))


@contextmanager
def compute_threads(threads: int) -> Iterator[None]:
    """PyTorch computes with so many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
