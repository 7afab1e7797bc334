"""What a training is made by, over interrupted runs: torch, threads, processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ValidationError

from pipeline.stage import Context
from stages.documents import MadeBy
from stages.training.made_here import DECIDING, differences, known_here
from stages.training.runtime import Precision, TrainingRuntime


def made_here(device: torch.device, precision: Precision = "32") -> MadeBy:
    """What trains in this process on ``device``."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return MadeBy.model_validate(
        {
            **known_here(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "precision": "bf16" if precision == "bf16" else "32",
            "accelerator": "" if device.type == "cpu" else accelerator,
        }
    )


def would_train() -> MadeBy:
    """What would train in a process like this one. It has loaded torch by then, which takes seconds."""
    return made_here(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


class Makers:
    """This process, and those that trained before it."""

    def __init__(self, runtime: TrainingRuntime) -> None:
        self._all: list[MadeBy] = [made_here(runtime.device, runtime.precision)]

    @property
    def all(self) -> tuple[MadeBy, ...]:
        """In order; the last one is at work."""
        return tuple(self._all)

    def state(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return [made_by.model_dump() for made_by in self._all]

    def resume(self, state: Sequence[Any] | None, what: str, context: Context, *, finished: bool) -> None:
        """Go on from a checkpoint's :meth:`state`; None where an earlier version kept none.

        ``finished``: nothing is left to do. Warns where what went before was made by something else.
        """
        try:
            before = [MadeBy.model_validate(made_by) for made_by in state or ()]
        except ValidationError:  # a later version's, with other fields
            before = []
        if not before:
            return
        here = self._all[-1]
        if finished:
            self._all = before
            return
        found = differences(before[-1], dict(here), DECIDING)
        if not found:
            self._all = before
            return
        self._all = [*before, here]
        context.warn(
            f"{what}: resumed on another processor or torch ({'; '.join(found)}). It continues; its figures "
            "will differ from those of an uninterrupted run."
        )
