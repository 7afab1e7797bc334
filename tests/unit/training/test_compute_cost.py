"""What computing took: processor time and not cores times wall clock, and it adds up over killed runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, memory_context
from support.toy_search import DATA, EACH_STEP, SPACE, Stopped, StoppingScratch, latency_model, toy_device

from android_bench.device import RuntimeOptions
from stages.documents import ComputeCost, PrunedNetworks, SearchResult
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.pick import COMPUTE_COST
from stages.nas.search_loop import CHECKPOINT, run_search
from stages.nas.targets import TargetConfig
from stages.prune import Prune
from stages.training.checkpoint import pack, unpack
from stages.training.cost import ComputeClock

CPU = torch.device("cpu")
CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=100, architecture_every=2, architecture_batch_size=50
)
LONG = 1e6
"""Seconds; no test takes as many."""


def ticking(readings: Iterable[float]) -> Callable[[], float]:
    return iter(readings).__next__


def clock(device: torch.device = CPU) -> ComputeClock:
    """Wall clock 10 s a reading; two cores, one of them waiting now and then."""
    return ComputeClock(device, wall=ticking(range(0, 1000, 10)), processor=ticking(range(0, 1000, 13)))


def search(scratch: MemoryScratch, store: MemoryStore | None = None) -> SearchResult:
    return run_search(
        CONFIG,
        SPACE,
        DATA,
        1,
        latency=latency_model(),
        targets_ms=[0.08],
        minimum_share=0.5,
        context=memory_context("search", scratch=scratch, store=store),
        checkpoint_seconds=EACH_STEP,
    )


def test_laps_add_up() -> None:
    watch = clock()
    assert watch.lap() == ComputeCost(seconds=10, processor_seconds=13, accelerator_seconds=0)
    assert watch.lap() == ComputeCost(seconds=10, processor_seconds=13, accelerator_seconds=0)
    assert watch.total() == ComputeCost(seconds=30, processor_seconds=39, accelerator_seconds=0)


def test_what_is_skipped_does_not_count() -> None:
    watch = clock()
    watch.lap()
    watch.skip()
    watch.skip()
    assert watch.total() == ComputeCost(seconds=20, processor_seconds=26, accelerator_seconds=0)


def test_a_gpu_is_held_for_as_long_as_the_wall_clock_runs() -> None:
    assert clock(torch.device("meta")).lap().accelerator_seconds == 10


def test_a_clock_goes_on_behind_a_checkpoint() -> None:
    watch = clock()
    watch.restore({"seconds": 100.0, "processor_seconds": 150.0, "accelerator_seconds": 7.0})
    assert watch.total() == ComputeCost(seconds=110, processor_seconds=163, accelerator_seconds=7)


def test_what_an_earlier_version_did_not_keep_is_not_made_up() -> None:
    watch = clock()
    watch.restore(None)
    watch.lap()
    assert watch.total() is None
    assert watch.state() is None
    assert not watch.known


def test_waiting_is_no_work() -> None:
    """Processor time stands still while the wall clock runs on."""
    watch = ComputeClock(CPU, wall=ticking([0.0, 50.0]))
    lap = watch.lap()
    assert lap.seconds == 50.0
    assert lap.processor_seconds < 5.0


def test_a_search_tells_its_processor_time() -> None:
    before = time.process_time()
    compute_cost = search(MemoryScratch()).compute_cost
    assert compute_cost is not None
    assert 0 < compute_cost.processor_seconds <= time.process_time() - before
    assert compute_cost.accelerator_seconds == (compute_cost.seconds if torch.cuda.is_available() else 0)


def test_a_search_that_goes_on_adds_up() -> None:
    scratch = StoppingScratch(stop_at=4)
    with pytest.raises(Stopped):
        search(scratch)
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    assert 0 < numbers["compute_cost"]["processor_seconds"] < LONG
    numbers["compute_cost"]["processor_seconds"] += LONG
    scratch.entries[CHECKPOINT] = pack(tensors, numbers)
    compute_cost = search(scratch).compute_cost
    assert compute_cost is not None
    assert LONG < compute_cost.processor_seconds < 2 * LONG


def test_a_search_that_goes_on_from_an_older_checkpoint_says_that_it_does_not_know() -> None:
    scratch = StoppingScratch(stop_at=4)
    with pytest.raises(Stopped):
        search(scratch)
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    del numbers["compute_cost"]
    scratch.entries[CHECKPOINT] = pack(tensors, numbers)
    assert search(scratch).compute_cost is None


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def searched(store: MemoryStore) -> SearchResult:
    return search(MemoryScratch(), store)


def pick(searched: SearchResult, store: MemoryStore, scratch: MemoryScratch) -> PrunedNetworks:
    stage = Prune(
        config=PruneConfig(candidates=2),
        target=TargetConfig(minimum_share=0.5),
        space=SPACE,
        data=DATA,
        runtime=RuntimeOptions(),
        seed=1,
        device=toy_device(),
    )
    context = memory_context("prune", store=store, scratch=scratch)
    return stage.run(context, search=searched, latency=latency_model())


def test_a_pick_keeps_its_laps_and_goes_on_behind_them(searched: SearchResult, store: MemoryStore) -> None:
    scratch = MemoryScratch()
    first = pick(searched, store, scratch).compute_cost
    laps = [ComputeCost.model_validate(row) for row in scratch.rows(COMPUTE_COST)]
    assert first is not None
    assert len(laps) >= 2 + 2, "before and behind the ranking, and behind both networks'"
    assert 0 < sum(lap.processor_seconds for lap in laps) <= first.processor_seconds
    scratch.append(COMPUTE_COST, {"seconds": LONG, "processor_seconds": LONG, "accelerator_seconds": 0})
    second = pick(searched, store, scratch).compute_cost
    assert second is not None
    assert LONG < second.processor_seconds < 2 * LONG
