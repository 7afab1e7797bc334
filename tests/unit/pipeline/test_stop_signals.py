from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import toy_pipeline
from toy_pipeline import Toy, plain

from nasflow.base.errors import RunInterruptedError
from pipeline import signals
from pipeline.events import Event, StageFailed
from pipeline.runner import Pipeline

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@BOTH
def test_a_signal_becomes_an_exception_with_the_shells_exit_code(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(RunInterruptedError) as caught, signals.interruptible("go on with: nasflow run"):
        send(number)
    assert caught.value.code == 128 + number
    assert signal.Signals(number).name in caught.value.message
    assert caught.value.hint == "go on with: nasflow run"
    assert signal.getsignal(number) is before


def test_without_a_signal_nothing_happens_and_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals.interruptible(), signals.deferred():
        signals.check()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    signals.check()


def test_a_signal_is_held_back_until_the_outermost_deferred_block_ends() -> None:
    reached: list[str] = []
    with pytest.raises(RunInterruptedError), signals.interruptible():
        with signals.deferred():
            with signals.deferred():
                send(signal.SIGINT)
                reached.append("inner")
            reached.append("outer")
        reached.append("behind")
    assert reached == ["inner", "outer"]


def test_a_second_signal_breaks_into_a_deferred_block() -> None:
    reached: list[str] = []
    with pytest.raises(RunInterruptedError, match="SIGTERM"), signals.interruptible(), signals.deferred():
        send(signal.SIGINT)
        reached.append("first")
        send(signal.SIGTERM)
        reached.append("second")
    assert reached == ["first"]


def test_a_second_signal_breaks_into_a_clean_up() -> None:
    reached: list[str] = []
    with pytest.raises(RunInterruptedError), signals.interruptible():
        try:
            send(signal.SIGINT)
        finally:
            with signals.deferred():
                reached.append("clean-up")
                send(signal.SIGINT)
                reached.append("the clean-up went on")
    assert reached == ["clean-up"]


def test_an_error_in_a_deferred_block_is_told_and_the_signal_not_forgotten() -> None:
    with signals.interruptible():
        with pytest.raises(KeyError), signals.deferred():
            send(signal.SIGINT)
            raise KeyError
        with pytest.raises(RunInterruptedError):
            signals.check()


def test_a_swallowed_interruption_is_raised_again_by_the_check() -> None:
    with pytest.raises(RunInterruptedError), signals.interruptible():
        with contextlib.suppress(RunInterruptedError):
            send(signal.SIGINT)
        signals.check()


def test_another_threads_deferred_block_neither_holds_back_nor_is_interrupted() -> None:
    inside, leave = threading.Event(), threading.Event()
    ended: list[str] = []

    def work() -> None:
        with signals.deferred():
            inside.set()
            leave.wait(10)
        ended.append("whole")

    with pytest.raises(RunInterruptedError), signals.interruptible():
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait(10)
        try:
            send(signal.SIGINT)
        finally:
            leave.set()
            thread.join(10)
    assert ended == ["whole"]


def test_blocks_may_be_nested_and_forget_each_others_signals() -> None:
    with signals.interruptible():
        with pytest.raises(RunInterruptedError), signals.interruptible():
            send(signal.SIGINT)
        signals.check()


# --- with a pipeline ---------------------------------------------------------------------------------------


def test_a_signal_in_a_stage_that_swallows_it_still_stops_the_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    sent = False

    def swallow(event: Event) -> None:
        nonlocal sent
        toy.events.append(event)
        if toy.notes.steps == ["draw 0"] and not sent:
            sent = True
            with contextlib.suppress(RunInterruptedError):
                send(signal.SIGINT)

    with pytest.raises(RunInterruptedError), signals.interruptible():
        Pipeline(toy.pipeline.stages, toy.store, swallow).run()
    assert toy.notes.steps == ["draw 0"]
    assert any(isinstance(event, StageFailed) for event in toy.events)


def test_a_signal_during_a_commit_waits_until_the_stage_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(tmp_path)
    replace = os.replace
    sent: list[Path] = []

    def replace_and_send(source: Path, target: Path) -> None:
        if "records" in Path(target).parts and not sent:
            sent.append(target)
            send(signal.SIGINT)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_and_send)
    with pytest.raises(RunInterruptedError), signals.interruptible():
        toy.run()
    assert [path.parent.name for path in sent] == ["draw"]
    assert not any(isinstance(event, StageFailed) for event in toy.events)
    assert "draw" not in Toy(tmp_path).stale()
    assert toy.store.scratch_folders("draw") == []


PROGRAM = """
import json, sys
import toy_pipeline
from nasflow.base.errors import RunInterruptedError
from pipeline import signals
try:
    with signals.interruptible():
        toy_pipeline.obey(json.loads(sys.argv[1]), 1)
except RunInterruptedError as error:
    sys.exit(error.code)
"""


@BOTH
def test_a_process_stopped_by_a_signal_exits_with_its_code_and_goes_on_later(
    tmp_path: Path, number: int
) -> None:
    order = json.dumps({"root": str(tmp_path), "settings": {"rows": 300}, "say": True})
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, order],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(toy_pipeline.__file__).parent)},
    )
    with process:
        assert process.stdout and process.stderr
        process.stdout.read(20)
        process.send_signal(number)
        complaints = process.stderr.read()
        process.stdout.read()
    assert complaints == b""
    assert process.returncode == 128 + number
    toy = Toy(tmp_path, rows=300)
    kept = len(toy.store.scratch("draw", toy.pipeline.status()[0].fingerprint or "").rows("rows"))
    assert kept >= 15
    assert toy.pipeline.status()[0].partly_done
    assert plain(toy.run(until="draw"))["draw"]["values"][:2] == [100, 101]
    assert len(toy.notes.steps) == 300 - kept
