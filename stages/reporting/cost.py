"""What finding the network cost, told apart from training and proving it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from pipeline.artifact import Record
from stages.documents import ComputeCost
from stages.reporting.run_documents import RunDocuments

Part = Literal["profile", "latency", "search", "prune", "finetune", "baseline", "verify"]

FINDING: tuple[Part, ...] = ("profile", "latency", "search", "prune")
TRAINING: tuple[Part, ...] = ("finetune", "baseline")

PARTS: dict[Part, str] = {
    "profile": "Blocks timed for the latency table",
    "latency": "Whole networks timed for the latency model",
    "search": "Search",
    "prune": "Selection: networks evaluated, candidates timed",
    "finetune": "Training of the found and the random networks",
    "baseline": "Training of the MobileNetV2s",
    "verify": "Side by side on the device",
}


class CostPart(Record):
    """What a stage took. Hours are 0 where it does not compute, and None where they were not recorded."""

    stage: Part
    device_seconds: float = Field(ge=0, description="for which the measured device was at work or held")
    cpu_hours: float | None = Field(description="processor time, all cores added up")
    gpu_hours: float | None = Field(description="for which a GPU was held")


class SearchCost(Record):
    """What the way to the found network took: profile, latency, search and prune; ``parts`` has all."""

    device_seconds: float
    cpu_hours: float | None
    gpu_hours: float | None
    parts: tuple[CostPart, ...]

    def part(self, stage: Part) -> CostPart:
        """What one stage took."""
        return next(part for part in self.parts if part.stage == stage)


def search_cost(run: RunDocuments) -> SearchCost:
    """Gather what the documents say.

    The latency model's ``seconds`` hold the table's. Fitting it takes no time worth counting.
    """
    parts = (
        _measured("profile", run.profile.seconds),
        _measured("latency", max(0.0, run.latency.seconds - run.profile.seconds)),
        _computed("search", [run.search.compute_cost]),
        _computed("prune", [run.prune.compute_cost], run.prune.seconds),
        _computed("finetune", [network.compute_cost for network in run.finetune.networks]),
        _computed("baseline", [network.compute_cost for network in run.baseline.networks]),
        _measured("verify", run.verify.seconds),
    )
    finding = [part for part in parts if part.stage in FINDING]
    return SearchCost(
        device_seconds=sum(part.device_seconds for part in finding),
        cpu_hours=total(part.cpu_hours for part in finding),
        gpu_hours=total(part.gpu_hours for part in finding),
        parts=parts,
    )


def _measured(stage: Part, device_seconds: float) -> CostPart:
    return CostPart(stage=stage, device_seconds=device_seconds, cpu_hours=0.0, gpu_hours=0.0)


def _computed(stage: Part, costs: Sequence[ComputeCost | None], device_seconds: float = 0.0) -> CostPart:
    known = [compute_cost for compute_cost in costs if compute_cost is not None]
    whole = len(known) == len(costs)
    return CostPart(
        stage=stage,
        device_seconds=device_seconds,
        cpu_hours=sum(compute_cost.processor_seconds for compute_cost in known) / 3600 if whole else None,
        gpu_hours=sum(compute_cost.accelerator_seconds for compute_cost in known) / 3600 if whole else None,
    )


def total(values: Iterable[float | None]) -> float | None:
    """A sum; None where one of the values is not known."""
    seen = list(values)
    return None if None in seen else sum(value for value in seen if value is not None)
