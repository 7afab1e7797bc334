"""Blocks timed again beside networks: what they say of the table."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from android_bench.device import Conditions, LatencyMeasurement
from stages.documents import TableCheck, TableRow
from stages.latency.table_check import PER_KIND, block_kinds, check_table, pick_sample
from stages.space import SpaceConfig, load_space

SPACES = ("fashion", "proxyless_mobile", "mobile_v3")


def measured(ms: float, chance: random.Random, noise: float = 0.005) -> LatencyMeasurement:
    rounds = sorted(ms * chance.lognormvariate(0, noise) for _ in range(8))
    middle = (rounds[3] + rounds[4]) / 2
    return LatencyMeasurement(
        median_ms=middle,
        p5_ms=0.98 * middle,
        p95_ms=1.05 * middle,
        min_ms=0.9 * middle,
        runs=800,
        rounds=8,
        round_medians_ms=tuple(rounds),
        conditions=Conditions(at=datetime(2026, 1, 1, tzinfo=UTC)),
    )


def table(space: str, chance: random.Random) -> list[TableRow]:
    return [
        TableRow(block=block, measurement=measured(0.002 + block.macs / 3e7, chance))
        for block in load_space(SpaceConfig(name=space)).distinct_blocks()
    ]


def again(
    rows: list[TableRow], slower: Mapping[str, float], kinds: Mapping[str, str], chance: random.Random
) -> list[LatencyMeasurement]:
    return [measured(row.measurement.median_ms * slower[kinds[row.block.key]], chance) for row in rows]


@pytest.mark.parametrize("space", SPACES)
def test_every_kind_of_block_is_timed_again_by_its_slower_blocks(space: str) -> None:
    rows = table(space, random.Random(0))
    kinds = block_kinds([row.block for row in rows])
    picked = pick_sample(rows)
    assert {kinds[row.block.key] for row in picked} == {"depthwise", "dense", "memory"}
    assert len({row.block.key for row in picked}) == len(picked) == 3 * PER_KIND
    for kind in set(kinds.values()):
        times = sorted(row.measurement.median_ms for row in rows if kinds[row.block.key] == kind)
        mine = [row.measurement.median_ms for row in picked if kinds[row.block.key] == kind]
        assert max(mine) == times[-1]
        assert min(mine) >= times[len(times) // 2 - 1]


@pytest.mark.parametrize("seed", range(10))
def test_a_device_that_is_slower_for_all_blocks_alike_leaves_the_table_as_it_is(seed: int) -> None:
    chance = random.Random(seed)
    rows = pick_sample(table("fashion", chance))
    kinds = block_kinds([row.block for row in rows])
    said = check_table(rows, again(rows, dict.fromkeys(kinds.values(), 1.3), kinds, chance), kinds)
    assert not said.corrected
    assert said.factor("memory") == 1.0
    assert said.disagreement_percent < 0.6


@pytest.mark.parametrize("seed", range(10))
def test_a_kind_that_has_become_slower_beside_the_others_is_corrected_by_that(seed: int) -> None:
    chance = random.Random(seed)
    rows = pick_sample(table("proxyless_mobile", chance))
    kinds = block_kinds([row.block for row in rows])
    slower = {"dense": 1.0, "depthwise": 1.0, "memory": 1.08}
    said = check_table(rows, again(rows, slower, kinds, chance), kinds)
    assert said.corrected
    assert said.factor("memory") / said.factor("dense") == pytest.approx(1.08, abs=0.012)
    assert said.disagreement_percent < 0.8


def test_blocks_that_changed_each_in_its_own_way_are_told() -> None:
    chance = random.Random(5)
    rows = pick_sample(table("proxyless_mobile", chance))
    kinds = block_kinds([row.block for row in rows])
    now = [measured(row.measurement.median_ms * chance.choice([0.95, 1.05]), chance) for row in rows]
    assert check_table(rows, now, kinds).disagreement_percent > 3.0


def test_a_single_block_says_nothing() -> None:
    chance = random.Random(0)
    rows = table("fashion", chance)[:1]
    said = check_table(rows, [measured(1.0, chance)], block_kinds([rows[0].block]))
    assert said == TableCheck()
