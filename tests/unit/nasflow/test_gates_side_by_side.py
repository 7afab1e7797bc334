"""Several phones' gates at once: whoever waits for whom, what is told, and what ends them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest
from test_gate_files import result

from nasflow.base.errors import DeviceLostError, NasflowError, RunInterruptedError
from nasflow.gate.phones import OnePhone, markdown_of_all, table
from nasflow.gate.side_by_side import HostLoad, PhoneGate, measure_all
from pipeline.events import Emit, Event, Message, Progress
from stages.documents.gate import GateResult

PATIENCE_S = 60.0


def run(
    *measures: Callable[[Emit], GateResult], load: HostLoad | None = None
) -> tuple[dict[int, GateResult | NasflowError], list[Event]]:
    """What came of each, and what was told."""
    ended: dict[int, GateResult | NasflowError] = {}
    told: list[Event] = []
    gates = [PhoneGate(f"phone {number}", measure) for number, measure in enumerate(measures)]
    measure_all(gates, told.append, load or HostLoad(), ended.__setitem__)
    return ended, told


def test_they_are_measured_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def measure(emit: Emit) -> GateResult:
        both.wait(PATIENCE_S)  # one after another, the first would wait in vain
        return result(0.5)

    ended, _ = run(measure, measure)
    assert ended == {0: result(0.5), 1: result(0.5)}


def test_an_error_of_one_leaves_the_other() -> None:
    def lost(emit: Emit) -> GateResult:
        raise DeviceLostError("it went away.", hint="Plug it in.")

    ended, _ = run(lost, lambda emit: result(0.5))
    assert isinstance(ended[0], DeviceLostError)
    assert ended[1] == result(0.5)


def test_what_is_told_names_the_phone_and_progress_is_that_of_all() -> None:
    first = threading.Event()

    def begins(emit: Emit) -> GateResult:
        emit(Message("verify", "hot"))
        emit(Progress("verify", 3, 30, "blocks", "ratio 0.5"))
        first.set()
        return result(0.5)

    def follows(emit: Emit) -> GateResult:
        first.wait(PATIENCE_S)
        emit(Progress("verify", 1, 30, "blocks", "ratio 0.7"))
        return result(0.5)

    _, told = run(begins, follows)
    assert told == [
        Message("verify", "phone 0: hot"),
        Progress("verify", 3, 30, "blocks", "phone 0: ratio 0.5"),
        Progress("verify", 4, 60, "blocks", "phone 1: ratio 0.7"),
    ]


def test_a_signal_ends_all_after_what_they_are_measuring() -> None:
    put_back = threading.Event()
    stopped = RunInterruptedError("stopped", signal_number=signal.SIGINT)
    measuring = threading.Event()

    def measures_on_and_on(emit: Emit) -> GateResult:
        try:
            while True:
                emit(Progress("verify", 1, 30, "blocks"))
                measuring.set()
        finally:
            put_back.set()

    def is_interrupted(emit: Emit) -> GateResult:
        measuring.wait(PATIENCE_S)
        raise stopped

    with pytest.raises(RunInterruptedError) as caught:
        run(measures_on_and_on, is_interrupted)
    assert caught.value is stopped
    assert put_back.is_set(), "the other phone was left as it was found"


def test_a_mistake_of_ours_is_no_phones_error() -> None:
    def broken(emit: Emit) -> GateResult:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(broken, lambda emit: result(0.5))


def test_a_busy_computer_is_told_where_it_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (5.0, 0.0, 0.0))
    load = HostLoad(cores=2)

    def measure(emit: Emit) -> GateResult:
        emit(Progress("verify", 1, 30, "blocks"))
        return result(0.5)

    run(measure, load=load)
    assert (load.most, load.busy) == (5.0, True)
    assert "a load of 5.0 on 2 cores; 3 blocks did not count." in load.warning(dropped=3, simulated=False)
    assert "Simulated phones are this computer" in load.warning(dropped=0, simulated=True)
    assert load.warning(dropped=0, simulated=False) == "", "no block was disturbed"
    assert HostLoad(most=1.9, cores=2).warning(dropped=3, simulated=True) == ""


def test_the_table_says_how_many_blocks_did_not_count() -> None:
    measured = result(0.5)
    first, *others = measured.blocks
    dropped = measured.model_copy(
        update={"blocks": (first.model_copy(update={"dropped": "throttled"}), *others)}
    )
    phones = [OnePhone("1 Pixel", dropped), OnePhone("2 <b>", error=DeviceLostError("it went away."))]
    head, pixel, other = table(phones)
    assert head.split() == ["phone", "ratio", "or", "ms", "interval", "blocks", "verdict"]
    assert "29 (1 did not count)" in pixel
    assert pixel.endswith("PASS")
    assert "ERROR (device-lost): it went away." in other
    assert "| 2 \\<b\\> |" in markdown_of_all(phones, "busy")
