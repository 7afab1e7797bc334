"""Measure a gate's blocks: both models and an anchor, interleaved, kept on the disk one by one."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Literal

from android_bench.device import BenchmarkRequest, Device
from pipeline.stage import Scratch
from stages.documents.gate import Block, BlockTiming
from stages.measurement.timing import time_each

Timed = Literal["candidate", "baseline", "anchor"]
TIMINGS = 2  # of each model in a block
_LOG = "blocks"


def block_order(seed: int, number: int) -> list[Timed]:
    """In which order a block times its models.

    The anchor comes first and last; between, each model in turn, in random order: what grows during a block
    strikes both, now the one harder and now the other.
    """
    between: list[Timed] = ["candidate", "baseline"] * TIMINGS
    random.Random(f"{seed}/{number}").shuffle(between)
    return ["anchor", *between, "anchor"]


class GateBlocks:
    """The blocks of one gate; ``requests`` has a model for each of the three names."""

    def __init__(
        self, scratch: Scratch, device: Device, requests: Mapping[Timed, BenchmarkRequest], seed: int
    ) -> None:
        self._scratch, self._device, self._seed = scratch, device, seed
        self._requests = {str(name): request for name, request in requests.items()}
        self.blocks = [Block.model_validate(row) for row in scratch.rows(_LOG)]

    def measure(self) -> Block:
        """One block more; it is on the disk when this returns.

        Raises DeviceError where the device is lost or leaves a model out: the block is then measured anew.
        """
        order = block_order(self._seed, len(self.blocks))
        began = time.monotonic()
        timings = tuple(
            BlockTiming.model_validate(
                {"model": name, "median_ms": measured.median_ms, "conditions": measured.conditions}
            )
            for name, measured in time_each(self._device, self._requests, order)
        )
        self._device.renew()  # a process's luck with its memory is a block's, and not a gate's
        block = Block(timings=timings, seconds=time.monotonic() - began)
        self._scratch.append(_LOG, block.model_dump(mode="json"))
        self.blocks.append(block)
        return block
