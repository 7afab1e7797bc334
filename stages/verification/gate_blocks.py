"""A gate's blocks: rounds of both models and an anchor (:class:`~stages.measurement.paired.PairedRounds`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from android_bench.device import BenchmarkRequest, Device
from pipeline.stage import Scratch
from stages.documents.gate import Block, BlockTiming
from stages.measurement.paired import PairedRounds, Round

Timed = Literal["candidate", "baseline", "anchor"]
TIMINGS = 2  # of each model in a block


class GateBlocks:
    """The blocks of one gate; ``requests`` has a model for each name, the baseline where there is one."""

    def __init__(
        self, scratch: Scratch, device: Device, requests: Mapping[Timed, BenchmarkRequest], seed: int
    ) -> None:
        by_name = {str(name): request for name, request in requests.items()}
        self._rounds = PairedRounds(scratch, device, by_name, seed, anchor="anchor", timings=TIMINGS)
        self.blocks = [_block(one) for one in self._rounds.rounds]

    def measure(self) -> Block:
        """One block more; it is on the disk when this returns.

        Raises DeviceError where the device is lost or leaves a model out: the block is then measured anew.
        """
        block = _block(self._rounds.measure())
        self.blocks.append(block)
        return block


def _block(one: Round) -> Block:
    timings = tuple(
        BlockTiming.model_validate(
            {
                "model": name,
                "median_ms": measured.median_ms,
                "resolution_ms": measured.resolution_ms,
                "conditions": measured.conditions,
            }
        )
        for name, measured in one.timings
    )
    return Block(timings=timings, seconds=one.seconds)
