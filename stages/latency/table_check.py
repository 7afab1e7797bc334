"""Blocks timed again beside whole networks: does the latency table still hold, for every kind of block?

A table is measured first and networks later, perhaps in another sitting, with other programs beside them.
What slows all blocks alike is taken up by the fit of scale and overhead. What slows depthwise, dense and
memory-bound blocks differently is not: a few blocks of each kind, timed again amid the networks, show it.
Where they disagree by more than chance, each kind of block is corrected by its own change; what is left of
their disagreement widens the prediction's interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

from android_bench.device import LatencyMeasurement
from stages.documents import TableCheck, TableRow
from stages.measurement.interval import interval_percent
from stages.space.block_spec import BlockSpec

Kind = Literal["depthwise", "dense", "memory"]

PER_KIND = 3
WORTHWHILE_PERCENT = 2.0
"""Kinds that disagree by less are left alone: so much a process's memory layout adds."""

_DEPTHWISE_SHARE = 0.45
_DEPTHWISE_COST = 4.0  # a depthwise multiply-accumulate's time over that of a dense one, roughly (XNNPACK)


def block_kinds(blocks: Sequence[BlockSpec]) -> dict[str, Kind]:
    """What bounds each block's speed, by its key.

    Of the blocks that no depthwise convolution rules, the half that computes least for each byte that it
    moves counts as bound by memory.
    """
    others = [block for block in blocks if depthwise_share(block) <= _DEPTHWISE_SHARE]
    middle = median(map(_macs_per_byte, others)) if others else 0.0
    return {
        block.key: "depthwise"
        if depthwise_share(block) > _DEPTHWISE_SHARE
        else "memory"
        if _macs_per_byte(block) <= middle
        else "dense"
        for block in blocks
    }


def depthwise_share(block: BlockSpec) -> float:
    """Rough share of a block's time that its depthwise convolution takes."""
    if block.kind != "mbconv":
        return 0.0
    depthwise = block.hidden_channels * (block.kernel * block.out_resolution) ** 2
    return _DEPTHWISE_COST * depthwise / (_DEPTHWISE_COST * depthwise + block.macs - depthwise)


def _macs_per_byte(block: BlockSpec) -> float:
    return block.macs / (1e6 * (block.weight_megabytes + block.activation_megabytes))


def pick_sample(rows: Sequence[TableRow], invoke_ms: float = 0.0) -> list[TableRow]:
    """Up to three blocks of each kind, from the slowest to the middle one: short ones tell little."""
    kinds = block_kinds([row.block for row in rows])
    picked: list[TableRow] = []
    for kind in ("depthwise", "dense", "memory"):
        mine = sorted(
            (row for row in rows if kinds[row.block.key] == kind and row.resolved),
            key=lambda row: row.block_ms(invoke_ms),
        )
        step = max(1, len(mine) // (2 * PER_KIND))
        picked += mine[::-1][: PER_KIND * step : step]
    return picked


def check_table(
    rows: Sequence[TableRow], now: Sequence[LatencyMeasurement], kinds: Mapping[str, str]
) -> TableCheck:
    """Hold blocks of a table against the same blocks timed again; ``kinds`` by the blocks' keys."""
    changes = [
        math.log(new.median_ms / row.measurement.median_ms) for row, new in zip(rows, now, strict=True)
    ]
    if len(changes) < 2:
        return TableCheck()
    chances = [
        math.hypot(_standard_error(row.measurement), _standard_error(new))
        for row, new in zip(rows, now, strict=True)
    ]
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(kinds[row.block.key], []).append(index)
    middles = {kind: median(changes[index] for index in indices) for kind, indices in groups.items()}
    usual = median(middles.values())
    beside = {kind: middle - usual for kind, middle in middles.items()}
    errors = {
        kind: 1.2533 * math.sqrt(sum(chances[p] ** 2 for p in indices)) / len(indices)
        for kind, indices in groups.items()
    }
    usual_error = sum(errors.values()) / len(errors)
    corrected = any(
        abs(change) > max(WORTHWHILE_PERCENT / 100, 2 * math.hypot(errors[kind], usual_error))
        for kind, change in beside.items()
    )
    left = [
        change - usual - (beside[kinds[row.block.key]] if corrected else 0.0)
        for row, change in zip(rows, changes, strict=True)
    ]
    variance = sum(value**2 for value in left) / len(left) - sum(c**2 for c in chances) / len(chances)
    return TableCheck(
        change_percent={kind: 100 * math.expm1(change) for kind, change in sorted(beside.items())},
        corrected=corrected,
        disagreement_percent=100 * math.sqrt(max(0.0, variance)),
    )


def _standard_error(measured: LatencyMeasurement) -> float:
    """Of a measured median, relative: a 95 % interval is four of it wide. One round tells none: 2 %."""
    width = interval_percent(measured.round_medians_ms)
    return width / 400 if math.isfinite(width) else 0.02
