"""How many epochs fit into a number of minutes: arithmetic on step times that were measured once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from pipeline.artifact import Record


class Lengths(Record):
    """Epochs of all that trains."""

    warmup: int = Field(ge=0, description="of the search's warm-up")
    search: int = Field(ge=1)
    training: int = Field(ge=1, description="of every network that is compared")


class Pace(Record):
    """How fast this computer trains."""

    supernet_image_ms: float = Field(gt=0, description="of a weight step, with all threads")
    baseline_image_ms: float = Field(gt=0, description="of a step of the reference network, with one thread")
    baseline_macs: int = Field(gt=0, description="of that network")

    def network_seconds(self, macs: int) -> float:
        """An image's pass through a training step of a network, on one core."""
        return 1e-3 * self.baseline_image_ms * _relative(macs) / _relative(self.baseline_macs)


@dataclass(frozen=True)
class Workload:
    """What a whole run trains, and what it does besides.

    ``found`` and ``baselines`` are the networks' multiply-accumulates, ``other_seconds`` what
    measuring, converting and verifying take. ``architecture_share``: what steps of the architecture add to an
    epoch of weight steps.
    """

    images: int
    cores: int
    found: tuple[int, ...]
    baselines: tuple[int, ...]
    other_seconds: float
    architecture_share: float

    def seconds(self, lengths: Lengths, pace: Pace) -> float:
        """Of the whole run."""
        return self.other_seconds + sum(self.training_seconds(lengths, pace).values())

    def training_seconds(self, lengths: Lengths, pace: Pace) -> dict[str, float]:
        """Of the stages that train, by their names."""
        passes = lengths.warmup + (1 + self.architecture_share) * lengths.search
        return {
            "search": passes * self.images * 1e-3 * pace.supernet_image_ms,
            "finetune": lengths.training * self._together(self.found, pace),
            "baseline": lengths.training * self._together(self.baselines, pace),
        }

    def _together(self, networks: Sequence[int], pace: Pace) -> float:
        """One epoch of several networks side by side, the largest begun first."""
        cores = [0.0] * self.cores
        for macs in sorted(networks, reverse=True):
            cores[cores.index(min(cores))] += self.images * pace.network_seconds(macs)
        return max(cores)


@dataclass(frozen=True)
class Shortened:
    """The lengths that were decided on, and what a run takes with them and with those asked for."""

    lengths: Lengths
    seconds: float
    asked_seconds: float


def fit(asked: Lengths, workload: Workload, pace: Pace, budget_seconds: float) -> Shortened:
    """The longest of :func:`shorter` ones that fit; the shortest where none does."""
    asked_seconds = workload.seconds(asked, pace)
    chosen = asked
    for lengths in shorter(asked):
        chosen = lengths
        if workload.seconds(lengths, pace) <= budget_seconds:
            break
    return Shortened(chosen, workload.seconds(chosen, pace), asked_seconds)


def shorter(asked: Lengths) -> Iterator[Lengths]:
    """``asked``, then one epoch less each time: of the longer of search and training down to one each, then
    of the warm-up down to none.
    """
    lengths = asked
    yield lengths
    while lengths.search > 1 or lengths.training > 1:
        if lengths.search >= lengths.training:
            lengths = lengths.model_copy(update={"search": lengths.search - 1})
        else:
            lengths = lengths.model_copy(update={"training": lengths.training - 1})
        yield lengths
    while lengths.warmup:
        lengths = lengths.model_copy(update={"warmup": lengths.warmup - 1})
        yield lengths


def _relative(macs: int) -> float:
    """Of one image in a training step; small networks have a cost that does not depend on their size."""
    return 2e6 + macs
