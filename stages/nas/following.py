"""Several processes started by ``torchrun`` or SLURM: the first runs the pipeline, the others follow.

A follower has no store and measures nothing. It waits to be told what is trained next, does its share, and
forgets the outcome, which the first process has as well. Each process that fails ends: torchrun and SLURM end
the others.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pipeline.artifact import Blob, sha256_hex
from pipeline.events import Event
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from stages.documents import LatencyModel
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.space.search_space import SearchSpace
from stages.training.distillation import kept_teacher
from stages.training.runtime import TrainingRuntime, start_runtime
from stages.training.task import course_of_json, data_of_json, perform, task_of_json

END = "end"


class _NoStore:
    """Names what it is given, and keeps nothing."""

    def put_bytes(self, data: bytes, suffix: str) -> Blob:
        return Blob(sha256=sha256_hex(data), suffix=suffix, size_bytes=len(data))

    def read_bytes(self, blob: Blob) -> bytes:
        raise RuntimeError(f"a follower has no store to read {blob.sha256} from")

    def path(self, blob: Blob) -> Any:
        raise RuntimeError(f"a follower has no store with {blob.sha256}")


def follow() -> None:
    """Take part in all that the first process trains, until it ends."""
    runtime = start_runtime(0, together=True)
    while True:
        told = json.loads(runtime.of_first(None) or b"{}")
        if told["work"] == END:
            return
        if told["work"] == "search":
            _search(told)
        else:
            _train(told, runtime)


def dismiss() -> None:
    """End the followers; for the first process, at its end."""
    start_runtime(0, together=True).tell(END)


def _search(told: dict[str, Any]) -> None:
    run_search(
        SearchConfig.model_validate(told["config"]),
        SearchSpace.model_validate(told["space"]),
        data_of_json(told["data"]),
        told["seed"],
        latency=LatencyModel.model_validate(told["latency"]),
        targets_ms=told["targets_ms"],
        minimum_share=told["minimum_share"],
        context=_context(),
        precision=told["precision"],
        checkpoint_seconds=told["checkpoint_seconds"],
    )


def _train(told: dict[str, Any], runtime: TrainingRuntime) -> None:
    course = course_of_json(told["course"])
    if course.recipe.teacher.network is not None:
        architecture, weights_of_teacher = (runtime.of_first(None) or b"" for _ in range(2))
        course = replace(course, recipe=kept_teacher(course.recipe, architecture, weights_of_teacher))
    weights = b"" if told["task"]["fresh"] else runtime.of_first(None)
    here = start_runtime(
        course.seed,
        precision=course.recipe.precision,
        checkpoint_seconds=course.checkpoint_seconds,
        together=True,
    )
    perform(task_of_json(told["task"], weights or b""), course, course.images(here), _context(), here)


def _context() -> Context:
    def ignore(_event: Event) -> None:
        """The first process tells what happens."""

    return Context("follower", "0" * 64, _NoStore(), FleetingScratch(), ignore)
