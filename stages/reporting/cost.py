"""What finding the network cost, told apart from training and proving it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from pipeline.artifact import Record
from stages.documents import Effort
from stages.reporting.run_documents import RunDocuments

Part = Literal["profile", "latency", "search", "prune", "finetune", "baseline", "verify"]

_UNKNOWN = "computing time was not recorded"
FINDING: tuple[Part, ...] = ("profile", "latency", "search", "prune")
TRAINING: tuple[Part, ...] = ("finetune", "baseline")

PARTS: dict[Part, str] = {
    "profile": "Blocks timed for the latency table",
    "latency": "Whole networks timed for the latency model",
    "search": "Search",
    "prune": "Pick: networks judged, candidates timed",
    "finetune": "Fine-tuning of the networks found and drawn",
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
        _computed("search", [run.search.effort]),
        _computed("prune", [run.prune.effort], run.prune.seconds),
        _computed("finetune", [network.effort for network in run.finetune.networks]),
        _computed("baseline", [network.effort for network in run.baseline.networks]),
        _measured("verify", run.verify.seconds),
    )
    finding = [part for part in parts if part.stage in FINDING]
    return SearchCost(
        device_seconds=sum(part.device_seconds for part in finding),
        cpu_hours=_sum(part.cpu_hours for part in finding),
        gpu_hours=_sum(part.gpu_hours for part in finding),
        parts=parts,
    )


def cost_sentence(cost: SearchCost) -> str:
    """The cost in one line: what it took to find the network, and to train it and the others."""
    training = [cost.part(stage) for stage in TRAINING]
    found = _spelt(cost.cpu_hours, cost.gpu_hours)
    trained = _spelt(_sum(p.cpu_hours for p in training), _sum(p.gpu_hours for p in training))
    device = f"{cost.device_seconds:.0f} s of the device"
    if found == trained == _UNKNOWN:
        return f"{device}; {_UNKNOWN}."
    return f"{device}, {found}; training all networks to the end: {trained}."


def _spelt(cpu_hours: float | None, gpu_hours: float | None) -> str:
    if cpu_hours is None or gpu_hours is None:
        return _UNKNOWN
    gpu = f" and {hours(gpu_hours)} GPU-hours" if gpu_hours else ""
    return f"{hours(cpu_hours)} CPU-hours{gpu}"


def hours(value: float | None) -> str:
    """``0.027``, ``1.850``, ``166``; ``<0.001``; a dash where it is not known."""
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _measured(stage: Part, device_seconds: float) -> CostPart:
    return CostPart(stage=stage, device_seconds=device_seconds, cpu_hours=0.0, gpu_hours=0.0)


def _computed(stage: Part, efforts: Sequence[Effort | None], device_seconds: float = 0.0) -> CostPart:
    known = [effort for effort in efforts if effort is not None]
    whole = len(known) == len(efforts)
    return CostPart(
        stage=stage,
        device_seconds=device_seconds,
        cpu_hours=sum(effort.processor_seconds for effort in known) / 3600 if whole else None,
        gpu_hours=sum(effort.accelerator_seconds for effort in known) / 3600 if whole else None,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """A sum; None where one of the values is not known."""
    seen = list(values)
    return None if None in seen else sum(value for value in seen if value is not None)
