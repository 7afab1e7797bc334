"""A search that was stopped, by whatever and wherever, ends as an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.toy_search import EACH_STEP, SPACE, Stopped, StoppingScratch, latency_model

from nasflow.base.errors import TrainingDivergedError, UsageError
from pipeline.events import Event, Metric
from pipeline.stage import Context
from stages.data.config import DataConfig
from stages.documents import SearchResult
from stages.nas.config import SearchConfig
from stages.nas.search_loop import CHECKPOINT, run_search
from stages.space.search_space import SearchSpace
from stages.training.checkpoint import VERSION, pack, unpack

CONFIG = SearchConfig(
    warmup_epochs=1, epochs=2, batch_size=50, architecture_every=2, architecture_batch_size=50
)
CONFIGS = {
    estimator: CONFIG.model_copy(update={"estimator": estimator, "paths_per_step": 2})
    for estimator in ("posterior", "window", "two_path", "reinforce")
}
DATA = DataConfig(train_images=300, architecture_images=200)
LATENCY = latency_model()
TARGET_MS, FURTHER_MS = 0.08, 0.0906
STEPS = 6
WRITES = 3 * (STEPS + 1)
"""One after each step, one after each epoch."""


def search(
    context: Context,
    config: SearchConfig = CONFIG,
    *,
    seed: int = 4,
    checkpoint_seconds: float = EACH_STEP,
) -> SearchResult:
    return run_search(
        config,
        SPACE,
        DATA,
        seed,
        latency=LATENCY,
        targets_ms=[TARGET_MS, FURTHER_MS],
        minimum_share=0.5,
        context=context,
        checkpoint_seconds=checkpoint_seconds,
    )


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's threads; they are put back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_search_that_goes_on_with_other_threads_says_so_and_records_both(
    threads: Callable[[int], None],
) -> None:
    scratch, told = StoppingScratch(stop_at=9), Told()
    threads(1)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    threads(2)
    resumed = search(memory_context("search", scratch=scratch, told=told))
    (warning,) = told.warnings
    assert warning.startswith("search: resumed on another processor or torch (threads 1 there and 2 here).")
    assert [made_by.threads for made_by in resumed.made_by] == [1, 2]
    assert {made_by.torch for made_by in resumed.made_by} == {version("torch")}


def test_a_search_that_had_only_to_be_handed_on_is_its_makers_alone(threads: Callable[[int], None]) -> None:
    scratch, told = StoppingScratch(stop_at=WRITES), Told()
    threads(1)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    threads(2)
    resumed = search(memory_context("search", scratch=scratch, told=told))
    assert [made_by.threads for made_by in resumed.made_by] == [1]
    assert told.warnings == []


def test_a_checkpoint_of_a_version_that_recorded_no_maker_still_serves(undisturbed: Undisturbed) -> None:
    scratch, told = StoppingScratch(stop_at=9), Told()
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    del numbers["made_by"]
    scratch.entries[CHECKPOINT] = pack(tensors, numbers)
    resumed = search(memory_context("search", scratch=scratch, told=told))
    assert without_seconds(resumed) == undisturbed.result
    assert told.warnings == []


def without_seconds(result: SearchResult) -> SearchResult:
    """A result without what the clock says."""
    history = tuple(point.model_copy(update={"seconds": 0.0}) for point in result.history)
    return result.model_copy(update={"history": history, "seconds": 0.0, "compute_cost": None})


@dataclass(frozen=True)
class Undisturbed:
    """A search's result, and everything that its last checkpoint holds, but for the clock."""

    result: SearchResult
    state: Mapping[str, object]


def end_state(scratch: MemoryScratch) -> Mapping[str, object]:
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    numbers.pop("compute_cost")
    for point in (numbers["now"], *numbers["history"]):
        point.pop("seconds")
        point.pop("epoch_seconds", None)
    return {**{name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, "numbers": numbers}


def left_alone(config: SearchConfig) -> Undisturbed:
    scratch = MemoryScratch()
    result = search(memory_context("search", scratch=scratch), config, checkpoint_seconds=1e9)
    return Undisturbed(without_seconds(result), end_state(scratch))


@pytest.fixture(scope="module")
def undisturbed() -> Undisturbed:
    return left_alone(CONFIG)


@pytest.fixture(scope="module")
def each_undisturbed() -> dict[str, Undisturbed]:
    return {estimator: left_alone(config) for estimator, config in CONFIGS.items()}


@pytest.mark.parametrize(
    ("write", "kept"),
    [
        *((write, True) for write in (1, 6, 7, 8, 9, 13, 14, 17, WRITES)),
        (1, False),
        (7, False),
        (WRITES, False),
    ],
)
def test_stopped_at_any_checkpoint_it_ends_as_if_undisturbed(
    undisturbed: Undisturbed, write: int, kept: bool
) -> None:
    """Of each epoch's seven writes the first six follow a step, the seventh closes it."""
    scratch = StoppingScratch(stop_at=write, kept=kept)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    resumed = search(memory_context("search", scratch=scratch))
    assert without_seconds(resumed) == undisturbed.result
    assert end_state(scratch) == undisturbed.state


@pytest.mark.parametrize("estimator", CONFIGS)
@pytest.mark.parametrize("write", [3, 7, 9, 13, 16, WRITES])
def test_by_every_estimator_it_ends_as_if_undisturbed(
    each_undisturbed: Mapping[str, Undisturbed], estimator: str, write: int
) -> None:
    scratch, config = StoppingScratch(stop_at=write), CONFIGS[estimator]
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch), config)
    resumed = search(memory_context("search", scratch=scratch), config)
    assert without_seconds(resumed) == each_undisturbed[estimator].result
    assert end_state(scratch) == each_undisturbed[estimator].state


@pytest.mark.parametrize("fair_share", [0.0, 0.5])
def test_by_sampled_weight_paths_too_it_ends_as_if_undisturbed(fair_share: float) -> None:
    config = CONFIG.model_copy(update={"fair_share": fair_share})
    whole = left_alone(config)
    for write in (9, 16):
        scratch = StoppingScratch(stop_at=write)
        with pytest.raises(Stopped):
            search(memory_context("search", scratch=scratch), config)
        resumed = search(memory_context("search", scratch=scratch), config)
        assert without_seconds(resumed) == whole.result
        assert end_state(scratch) == whole.state


@pytest.mark.parametrize("estimator", CONFIGS)
def test_a_checkpoint_holds_all_that_is_not_drawn_anew(
    each_undisturbed: Mapping[str, Undisturbed], estimator: str
) -> None:
    state = each_undisturbed[estimator].state
    numbers = state["numbers"]
    assert isinstance(numbers, dict)
    for part in ("supernet", "architecture", "weights_optimizer"):
        assert any(name.startswith(f"{part}.") for name in state)
    steps, learned = numbers["now"]["architecture_steps"], numbers["estimator"]
    assert steps == 2 * STEPS // 2
    if estimator in ("two_path", "reinforce"):
        assert learned["multiplier"]["steps"] == steps
        assert [moment["step"] for moment in learned["moments"]] == [steps] * len(SPACE.layers())
        assert all(max(map(abs, moment["exp_avg_sq"])) > 0 for moment in learned["moments"][1:])
    if estimator == "reinforce":
        assert learned["baseline"]["weight"] == pytest.approx(1 - CONFIG.baseline_decay**steps)
        assert learned["baseline"]["sum"] < 0.0
    if estimator in ("posterior", "window"):
        assert learned["step"] == steps
    if estimator == "posterior":
        assert learned["steps"] == [step for step in range(steps) for _ in range(2)]
        assert len(learned["paths"]) == len(learned["values"]) == 2 * steps
        assert len(learned["shares"]) == 2, "one for each target"
    if estimator == "window":
        assert [target["steps"] for target in learned["targets"]] == [steps / 2, steps / 2]


def test_the_estimators_learn_different_probabilities_for_as_many_targets_as_they_can(
    each_undisturbed: Mapping[str, Undisturbed],
) -> None:
    results = {estimator: each.result for estimator, each in each_undisturbed.items()}
    assert len({result.log_probabilities for result in results.values()}) == len(results)
    for estimator, result in results.items():
        assert result.estimator == estimator
        with_price = estimator in ("two_path", "reinforce")
        assert [further.target_ms for further in result.further] == ([] if with_price else [FURTHER_MS])
        assert all((epoch.multiplier is not None) == with_price for epoch in result.history)
        assert (result.evaluations is not None) == (estimator == "posterior")


def test_bn_statistics_have_seen_weight_steps_and_nothing_else(
    each_undisturbed: Mapping[str, Undisturbed],
) -> None:
    """Architecture steps, their draws and the warm-up's probes leave no trace in them."""
    for state in (each.state for each in each_undisturbed.values()):
        counts = {}
        for name, content in state.items():
            if name.endswith("num_batches_tracked"):
                assert isinstance(content, bytes)
                counts[name] = int.from_bytes(content, "little")
        assert counts["supernet.stem.1.num_batches_tracked"] == 3 * STEPS
        for index, layer in enumerate(SPACE.layers()):
            prefix = f"supernet.layers.{index}.candidates."
            by_candidate = {
                name.removeprefix(prefix).split(".")[0]: count
                for name, count in counts.items()
                if name.startswith(prefix)
            }
            taken = sum(by_candidate.values())
            assert taken <= 3 * STEPS if None in layer.blocks else taken == 3 * STEPS


def test_stopped_three_times_it_ends_as_if_undisturbed(undisturbed: Undisturbed) -> None:
    scratch, told = StoppingScratch(), Told()
    for write in (4, 9, 12):
        scratch.stop_at = write
        with pytest.raises(Stopped):
            search(memory_context("search", scratch=scratch))
    resumed = search(memory_context("search", scratch=scratch, told=told))
    assert without_seconds(resumed) == undisturbed.result
    # Of 12 writes, one closed the warm-up.
    assert any("resuming at epoch 1, step 5" in str(event) for event in told.events)


@pytest.mark.parametrize("event", [0, 1, 3])
def test_stopped_while_it_tells_of_an_epoch_it_ends_as_if_undisturbed(
    undisturbed: Undisturbed, event: int
) -> None:
    scratch, seen = MemoryScratch(), 0

    def emit(told: Event) -> None:
        nonlocal seen
        seen += isinstance(told, Metric)
        if seen == event + 1:
            raise Stopped

    with pytest.raises(Stopped):
        search(Context("search", "0" * 64, MemoryStore(), scratch, emit))
    assert without_seconds(search(memory_context("search", scratch=scratch))) == undisturbed.result


def test_a_finished_search_is_not_done_again(undisturbed: Undisturbed) -> None:
    scratch = StoppingScratch(stop_at=WRITES)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch))
    writes = len(scratch.saved)
    assert without_seconds(search(memory_context("search", scratch=scratch))) == undisturbed.result
    assert len(scratch.saved) == writes


def test_another_seed_gives_another_search(undisturbed: Undisturbed) -> None:
    other = search(memory_context("search"), seed=5, checkpoint_seconds=1e9)
    assert other.supernet != undisturbed.result.supernet
    assert other.log_probabilities != undisturbed.result.log_probabilities


def test_the_stored_supernet_and_probabilities_are_those_of_the_last_step(undisturbed: Undisturbed) -> None:
    result = undisturbed.result
    assert [point.phase for point in result.history] == ["warm-up", "search", "search"]
    last = [
        list(map(float, torch.tensor(row, dtype=torch.float64).exp())) for row in result.log_probabilities
    ]
    for row, point in zip(last, result.history[-1].probabilities, strict=True):
        assert row == pytest.approx(list(point))
        assert sum(row) == pytest.approx(1.0)
    assert result.expected_ms == result.history[-1].expected_ms


@pytest.mark.parametrize("estimator", CONFIGS)
@pytest.mark.parametrize("warmup_epochs", [20, 0], ids=["in the warm-up", "in the search"])
def test_a_search_that_diverges_names_its_step_and_leaves_a_sound_checkpoint(
    warmup_epochs: int, estimator: str
) -> None:
    explosive = CONFIGS[estimator].model_copy(
        update={"learning_rate": 10.0, "weight_decay": 1.0, "warmup_epochs": warmup_epochs, "epochs": 20}
    )
    scratch = MemoryScratch()
    with pytest.raises(TrainingDivergedError) as first:
        search(memory_context("search", scratch=scratch), explosive)
    assert first.value.step > 2
    assert f"at step {first.value.step}" in first.value.message
    assert "learning_rate" in first.value.hint
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    assert numbers["now"]["epoch"] * STEPS + numbers["now"]["step"] <= first.value.step
    with pytest.raises(TrainingDivergedError) as second:
        search(memory_context("search", scratch=scratch), explosive)
    assert (second.value.step, second.value.exit_code) == (first.value.step, 9)


def test_a_warm_up_that_ends_in_infinity_says_so_although_no_weight_step_saw_it() -> None:
    """Its last step makes a weight infinite, but that of a channel which is zero: no loss tells of it."""
    explosive = CONFIG.model_copy(update={"learning_rate": 10.0, "weight_decay": 1.0})
    store, scratch = MemoryStore(), StoppingScratch(stop_at=STEPS - 1)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch), explosive)
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    tensors["supernet.head.1.weight"][0] = 0.0
    tensors["supernet.head.1.bias"][0] = -1.0
    tensors["supernet.classifier.dense.weight"][:, 0] = 3e38  # the decay takes several times that away
    scratch.entries[CHECKPOINT] = last_good = pack(tensors, numbers)
    with pytest.raises(
        TrainingDivergedError, match=rf"dense\.weight is not finite at step {STEPS};"
    ) as caught:
        search(
            memory_context("search", store=store, scratch=scratch),
            explosive,
            checkpoint_seconds=1e9,
        )
    assert caught.value.step == STEPS
    assert scratch.entries == {CHECKPOINT: last_good}
    assert not store.content


def test_epochs_without_an_architecture_step_are_refused() -> None:
    with pytest.raises(UsageError, match="architecture_every is 7, but an epoch has only 6 steps"):
        search(memory_context("search"), CONFIG.model_copy(update={"architecture_every": 7}))


# --- somebody else's checkpoint --------------------------------------------------------------------


def half_done(config: SearchConfig = CONFIG) -> StoppingScratch:
    scratch = StoppingScratch(stop_at=9)
    with pytest.raises(Stopped):
        search(memory_context("search", scratch=scratch), config)
    return scratch


def refused(scratch: MemoryScratch, *, space: SearchSpace = SPACE) -> UsageError:
    before = dict(scratch.entries)
    with pytest.raises(UsageError) as caught:
        run_search(
            CONFIG,
            space,
            DATA,
            4,
            latency=latency_model(space),
            targets_ms=[TARGET_MS],
            minimum_share=0.5,
            context=memory_context("search", scratch=scratch),
        )
    assert scratch.entries == before, "it is kept as it was"
    assert caught.value.exit_code == 2
    assert "scratch/search-0000000000000000" in caught.value.hint
    return caught.value


def test_a_checkpoint_of_another_space_is_refused_with_what_differs() -> None:
    stem = SPACE.stem.model_copy(update={"width": 16})
    error = refused(half_done(), space=SPACE.model_copy(update={"stem": stem}))
    assert "space.stem.width is 8 there and 16 here" in error.message
    other = SPACE.model_copy(update={"name": "other", "candidates": SPACE.candidates[:1], "head_width": 40})
    error = refused(half_done(), space=other)
    assert "space.name is toy there and other here" in error.message
    assert "space.head_width is 32 there and 40 here" in error.message
    assert error.message.endswith("space.candidates.1.kind is mbconv there and nothing here; and 2 more.")


@pytest.mark.parametrize("version", [1, VERSION + 1, None])
def test_a_checkpoint_of_another_version_is_refused_with_what_differs(version: int | None) -> None:
    scratch = half_done()
    tensors, numbers = unpack(scratch.entries[CHECKPOINT])
    if version is None:
        del numbers["origin"]
    else:
        numbers["origin"]["version"] = version
    scratch.entries[CHECKPOINT] = pack(tensors, numbers)
    assert f"version is {version or 'nothing'} there and {VERSION} here" in refused(scratch).message


def test_a_checkpoint_of_another_estimator_is_refused() -> None:
    error = refused(half_done(CONFIGS["reinforce"]))
    assert "estimator is reinforce there and posterior here" in error.message
