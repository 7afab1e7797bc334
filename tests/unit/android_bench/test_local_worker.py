"""The worker's parts: frames, the timing loop, the models that are ready."""

from __future__ import annotations

import gc
import io
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.local.frames import read_frame, write_frame
from android_bench.local.litert_worker import LiteRt, fill_inputs, open_interpreter
from android_bench.local.serving import Loaded, ModelError, Operation, OutOfMemoryError, answered
from android_bench.local.timing import time_invocations
from stages.conversion.flatbuffer import block_model, empty_model
from stages.space.block_spec import BlockSpec

ONE_THREAD = {"threads": 1}
HEAD = BlockSpec(kind="head", in_channels=8, out_channels=16, resolution=4)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.binary())
def test_a_frame_comes_back_as_it_was_sent(header: dict[str, object], payload: bytes) -> None:
    stream = io.BytesIO()
    write_frame(stream, header, payload)
    stream.seek(0)
    assert read_frame(stream) == (header, payload)
    assert read_frame(stream) is None


@given(st.binary(max_size=40), st.data())
def test_a_torn_frame_reads_as_the_end(payload: bytes, data: st.DataObject) -> None:
    stream = io.BytesIO()
    write_frame(stream, {"op": "load"}, payload)
    whole = stream.getvalue()
    length = data.draw(st.integers(0, len(whole) - 1))
    assert read_frame(io.BytesIO(whole[:length])) is None


class Clock:
    """A clock that an invocation moves on by 1 ms, 100 times as far in the first one."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.invocations = 0
        self.collecting: set[bool] = set()

    def __call__(self) -> int:
        return self.now_ns

    def invoke(self) -> None:
        self.invocations += 1
        self.collecting.add(gc.isenabled())
        self.now_ns += 100_000_000 if self.invocations == 1 else 1_000_000


@pytest.mark.parametrize(
    ("min_ms", "min_runs", "max_runs", "runs"),
    [
        (20, 10, 1000, 20),
        (20, 50, 1000, 50),
        (20, 10, 15, 15),
        (20, 10, 5, 5),
        (0.5, 1, 1000, 1),
    ],
)
def test_both_minima_are_reached_unless_the_maximum_is(
    min_ms: float, min_runs: int, max_runs: int, runs: int
) -> None:
    clock = Clock()
    durations = time_invocations(
        clock.invoke, warmup_ms=0, min_ms=min_ms, min_runs=min_runs, max_runs=max_runs, clock=clock
    )
    assert durations == [1_000_000] * runs


def test_warm_up_takes_its_time_and_is_not_counted() -> None:
    clock = Clock()
    durations = time_invocations(
        clock.invoke, warmup_ms=105, min_ms=3, min_runs=1, max_runs=1000, clock=clock
    )
    assert durations == [1_000_000] * 3
    assert clock.invocations == 6 + 3


@pytest.mark.parametrize(("run_ms", "uncounted"), [(1, 10), (9, 10), (25, 4), (300, 1)])
def test_ten_runs_warm_up_unless_they_take_too_long(run_ms: int, uncounted: int) -> None:
    runs: list[int] = []
    durations = time_invocations(
        lambda: runs.append(run_ms * 1_000_000),
        warmup_ms=3,
        min_ms=1,
        min_runs=5,
        max_runs=5,
        clock=lambda: sum(runs),
    )
    assert len(durations) == 5
    assert len(runs) == uncounted + 5


def test_time_given_to_other_programs_amid_an_invocation_is_left_out() -> None:
    wall: list[int] = []
    own: list[int] = []

    def invoke() -> None:
        number = len(wall)
        own.append(2_000_000)
        wall.append(2_000_000 + (9_000_000 if number % 2 else 15_000))

    durations = time_invocations(
        invoke,
        warmup_ms=0,
        min_ms=1,
        min_runs=4,
        max_runs=4,
        clock=lambda: sum(wall),
        own_clock=lambda: sum(own),
    )
    assert durations == [2_015_000, 2_000_000, 2_015_000, 2_000_000]


def test_the_garbage_collector_rests_while_time_is_taken_and_works_afterwards() -> None:
    clock = Clock()
    time_invocations(clock.invoke, warmup_ms=0, min_ms=3, min_runs=1, max_runs=9, clock=clock)
    assert clock.collecting == {False}
    assert gc.isenabled()


def test_the_least_recently_used_model_is_given_up() -> None:
    models = Loaded(LiteRt(), max_models=2)
    for name in ("first", "second"):
        models.load(name, ONE_THREAD, empty_model())
    assert models.get("first", ONE_THREAD) is not None
    models.load("third", ONE_THREAD, empty_model())
    assert models.get("second", ONE_THREAD) is None
    assert models.get("first", ONE_THREAD) is not None
    assert models.get("third", ONE_THREAD) is not None
    assert models.get("third", {"threads": 2}) is None
    assert models.get("third", {"threads": 1, "plain": True}) is None


def test_a_model_above_the_bound_in_bytes_is_kept_alone() -> None:
    models = Loaded(LiteRt(), max_bytes=10)
    models.load("first", ONE_THREAD, empty_model())
    assert models.get("first", ONE_THREAD) is not None
    models.load("second", ONE_THREAD, empty_model())
    assert models.get("first", ONE_THREAD) is None
    assert models.get("second", ONE_THREAD) is not None


@dataclass(frozen=True)
class Held:
    """A model that holds so much of a device's memory."""

    share: float

    @property
    def invoke(self) -> Callable[[], object]:
        return lambda: None

    def run(self, inputs: np.ndarray) -> np.ndarray:
        if self.share + inputs.shape[0] / 100 > 1:
            raise MemoryError("Tried to allocate 2.00 GiB")
        return inputs.astype(np.float32)


class SmallMemory:
    """An engine whose device holds models up to 1 together; a file says how much it takes.

    A model that is given up leaves its memory taken until :meth:`free`, as PyTorch's allocator keeps it.
    """

    operations: ClassVar[Mapping[str, Operation]] = {}

    def __init__(self) -> None:
        self.living: list[weakref.ref[Held]] = []
        self.taken = 0.0
        self.loads = 0

    def refusals(self) -> tuple[type[Exception], ...]:
        return MemoryError, ValueError

    def exhausted(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def free(self) -> None:
        self.taken = sum(held.share for one in self.living if (held := one()) is not None)

    def load(self, content: bytes, options: Mapping[str, Any]) -> Held:
        self.loads += 1
        share = float(content)
        if self.taken + share > 1:
            raise MemoryError(f"Tried to allocate {share}")
        self.taken += share
        held = Held(share)
        self.living.append(weakref.ref(held))
        return held

    def own_clock(self, options: Mapping[str, Any]) -> None:
        return None


def asked(operation: str, model: str, **further: object) -> dict[str, Any]:
    return {"op": operation, "model": model, "options": ONE_THREAD, **further}


def test_models_that_fit_one_by_one_are_all_served_though_the_memory_holds_few_of_them() -> None:
    engine = SmallMemory()
    loaded = Loaded(engine)
    for name in ("a", "b", "c"):
        assert answered(engine, loaded, asked("load", name), b"0.4") == ({}, b"")
    assert loaded.get("a", ONE_THREAD) is None, "given up for c"
    assert loaded.get("c", ONE_THREAD) is not None
    for name in ("a", "b", "c"):
        if loaded.get(name, ONE_THREAD) is None:
            answered(engine, loaded, asked("load", name), b"0.4")
        assert loaded.get(name, ONE_THREAD) is not None
    assert engine.loads < 3 * 2 * 2


def test_memory_that_is_used_up_while_a_model_runs_is_taken_from_the_others() -> None:
    engine = SmallMemory()
    loaded = Loaded(engine)
    for name in ("a", "b"):
        answered(engine, loaded, asked("load", name), b"0.3")
    images = np.zeros((80, 1), np.float32)
    with pytest.raises(OutOfMemoryError, match="Tried to allocate"):
        answered(engine, loaded, asked("run", "a", shape=images.shape, type="float32"), images.tobytes())
    assert loaded.get("a", ONE_THREAD) is not None
    assert loaded.get("b", ONE_THREAD) is None
    assert engine.taken == 0.3


def test_a_model_that_is_too_large_alone_is_told_as_such() -> None:
    engine = SmallMemory()
    loaded = Loaded(engine)
    answered(engine, loaded, asked("load", "small"), b"0.4")
    with pytest.raises(OutOfMemoryError, match=r"allocate 1\.5"):
        answered(engine, loaded, asked("load", "large"), b"1.5")
    assert engine.loads == 3, "tried once more"


@pytest.fixture
def input_values() -> Iterator[np.ndarray]:
    interpreter = open_interpreter(block_model(HEAD), 1)
    fill_inputs(interpreter)
    yield interpreter.get_tensor(interpreter.get_input_details()[0]["index"])


def test_inputs_are_fixed_numbers_without_zeros_or_denormals(input_values: np.ndarray) -> None:
    again = open_interpreter(block_model(HEAD), 1)
    fill_inputs(again)
    assert np.array_equal(again.get_tensor(again.get_input_details()[0]["index"]), input_values)
    assert -1 <= input_values.min() < -0.5 < 0.5 < input_values.max() <= 1
    assert np.abs(input_values).min() > 1e-6


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match="not a valid Flatbuffer"):
        open_interpreter(b"no model", 1)


def test_a_board_with_the_runtime_of_the_former_name_runs_models(monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter as runtime

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", runtime)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", runtime)
    models = Loaded(LiteRt())
    models.load("empty", ONE_THREAD, empty_model())
    assert models.get("empty", ONE_THREAD) is not None
