"""What computing takes, added up over interrupted runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from stages.documents import ComputeCost

_NOTHING = ComputeCost(seconds=0.0, processor_seconds=0.0, accelerator_seconds=0.0)


class ComputeClock:
    """Wall clock and processor time of this process, lap by lap.

    A lap is kept together with the work that it paid for, so that what a killed run had not kept is not
    counted, and what it had is. Processor time is that of all threads, user and system together: wall
    clock times cores would count waiting as work. An accelerator is held for as long as the wall clock runs.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        wall: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._accelerated, self._wall, self._processor = device.type != "cpu", wall, processor
        self._total: ComputeCost | None = _NOTHING
        self.skip()

    def skip(self) -> None:
        """Begin a lap here; what has passed since the last one belongs to no lap."""
        self._wall_mark, self._processor_mark = self._wall(), self._processor()

    def lap(self) -> ComputeCost:
        """End a lap and begin the next; what the ended one took."""
        wall_mark, processor_mark = self._wall_mark, self._processor_mark
        self.skip()
        seconds = self._wall_mark - wall_mark
        lap = ComputeCost(
            seconds=seconds,
            processor_seconds=self._processor_mark - processor_mark,
            accelerator_seconds=seconds if self._accelerated else 0.0,
        )
        self.add(lap)
        return lap

    def add(self, earlier: ComputeCost | None) -> None:
        """Count laps of an earlier run. None: nobody knows what it took, nor then what all took."""
        if earlier is None or self._total is None:
            self._total = None
            return
        self._total = ComputeCost(
            **{name: getattr(self._total, name) + getattr(earlier, name) for name in ComputeCost.model_fields}
        )

    @property
    def known(self) -> bool:
        """Whether it is known what all laps took, those of earlier runs too."""
        return self._total is not None

    def total(self) -> ComputeCost | None:
        """All laps, one that ends here among them; None where an earlier run's are not known."""
        self.lap()
        return self._total

    def state(self) -> dict[str, Any] | None:
        """:meth:`total` for a checkpoint."""
        total = self.total()
        return None if total is None else total.model_dump()

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a checkpoint's :meth:`state`; None where it has none."""
        self.add(None if state is None else ComputeCost.model_validate(state))
