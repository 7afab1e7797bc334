from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from toy_pipeline import Alone, Draw, DrawConfig, Notes, Numbers, Show, Sum, SumConfig, Total, Toy, plain

from nasflow.base.errors import DatasetMissingError, IntegrityError, NoUsableDeviceError, UsageError
from pipeline.artifact import Document, blobs_of
from pipeline.events import Message, StageFailed, StageFinished, StageSkipped, StageStarted
from pipeline.runner import Pipeline
from pipeline.stage import TOOL, Context, Stage
from pipeline.store.records import StageRecord

ALL = ["draw", "double", "alone", "sum", "show"]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def record(toy: Toy, stage: str) -> StageRecord:
    found = toy.store.latest(stage)
    assert found is not None
    return found


# --- what runs -------------------------------------------------------------------------------------------


def test_the_first_run_runs_everything_and_the_second_nothing(tmp_path: Path) -> None:
    first = Toy(tmp_path)
    assert first.stale() == {
        "draw": "never ran",
        "double": "its input `draw` is stale; never ran",
        "alone": "never ran",
        "sum": "its inputs `double` and `alone` are stale; never ran",
        "show": "its input `sum` is stale; never ran",
    }
    documents = first.run()
    assert first.notes.ran == ALL
    assert plain(documents)["sum"]["total"] == 2 * (100 + 101 + 104 + 109) + 1
    second = Toy(tmp_path)
    assert second.stale() == {}
    assert second.run() == documents
    assert second.notes.ran == []
    assert [type(event) for event in second.events] == [StageSkipped] * 5


def test_a_run_tells_of_each_stage_with_its_reason_and_its_time(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    ticks = iter(range(1000))
    Pipeline(toy.pipeline.stages, toy.store, toy.events.append, clock=lambda: float(next(ticks))).run()
    started = [event for event in toy.events if isinstance(event, StageStarted)]
    finished = [event for event in toy.events if isinstance(event, StageFinished)]
    assert [event.stage for event in started] == [event.stage for event in finished] == ALL
    assert {event.reason for event in started} == {"never ran"}
    assert all(event.seconds > 0 for event in finished)
    assert [record(toy, name).seconds for name in ALL] == [event.seconds for event in finished]


@pytest.mark.parametrize(
    ("change", "stages", "reason"),
    [
        ({"rows": 5}, ["draw", "double", "sum", "show"], "setting `draw.rows` changed from 4 to 5"),
        ({"factor": 3}, ["double", "sum", "show"], "setting `double.factor` changed from 2 to 3"),
        ({"label": "all"}, ["sum", "show"], "setting `sum.label` changed from sum to all"),
        ({"seed": 2}, ALL, "setting `seed` changed from 1 to 2"),
    ],
)
def test_changing_one_key_reruns_exactly_the_stages_that_it_concerns(
    tmp_path: Path, change: dict[str, Any], stages: list[str], reason: str
) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path, **change)
    stale = toy.stale()
    assert list(stale) == stages
    assert stale[stages[0]] == reason
    toy.run()
    assert toy.notes.ran == stages
    back = Toy(tmp_path)
    back.run()
    assert back.notes.ran == []


def test_an_equal_output_ends_the_rerun_early(tmp_path: Path) -> None:
    settings = {"parity_only": True, "label": "p"}
    Toy(tmp_path, **settings).run()
    toy = Toy(tmp_path, factor=4, **settings)
    assert list(toy.stale()) == ["double", "sum", "show"]
    toy.run()
    assert toy.notes.ran == ["double", "sum"]


def test_several_changes_are_all_told(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path, rows=2, bias=9, seed=5)
    assert toy.stale()["draw"] == (
        "setting `draw.bias` changed from 0 to 9; setting `draw.rows` changed from 4 to 2; "
        "setting `seed` changed from 1 to 5"
    )


def test_a_changed_environment_is_named(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path, notes=Notes(environment={"device_model": "phone", "soc": "X"}))
    assert toy.stale()["draw"] == (
        "environment `device_model` changed from toy to phone; environment `soc` is new (X)"
    )
    toy.run()
    assert toy.notes.ran == ["draw"]


def test_a_new_version_of_a_stage_makes_it_stale(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()

    class NewShow(Show):
        version: ClassVar[int] = 2

    stages = (*toy.pipeline.stages[:-1], NewShow(1, toy.notes))
    status = Pipeline(stages, toy.store, toy.events.append).status()[-1]
    assert status.why == "the stage's version changed from 1 to 2"


def test_a_changed_input_is_named(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path, label="all")
    toy.run(until="sum")
    assert toy.stale() == {"show": "the output of its input `sum` changed"}


def test_a_section_that_is_called_otherwise_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Recipe(Alone):
        recipe: DrawConfig = field(kw_only=True, metadata={"section": "finetune"})

    toy = Toy(tmp_path)
    stage = Recipe(1, toy.notes, recipe=DrawConfig())
    Pipeline([stage], toy.store, toy.events.append).run()
    changed = replace(stage, recipe=DrawConfig(rows=9))
    (status,) = Pipeline([changed], toy.store, toy.events.append).status()
    assert status.why == "setting `finetune.rows` changed from 4 to 9"


# --- which stages a run is about -----------------------------------------------------------------------


def test_until_runs_a_stage_and_what_it_needs(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    assert list(toy.run(until="double")) == ["draw", "double"]
    assert toy.notes.ran == ["draw", "double"]
    assert [status.name for status in toy.pipeline.status(until="alone")] == ["alone"]


def test_what_a_stage_comes_after_is_run_first_and_never_makes_it_stale(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    checking, checked = stage("checking"), stage("checked", after=("checking",))
    pipeline = Pipeline([checking, checked], toy.store, toy.events.append)
    assert list(pipeline.run(until="checked")) == ["checking", "checked"]
    assert [status.fresh for status in pipeline.status()] == [True, True]
    pipeline.run(from_stage="checking")
    again = [event for event in toy.events if isinstance(event, StageStarted)][2:]
    assert [event.stage for event in again] == ["checking"], "what comes after it does not depend on it"
    other = type(checking)(2, Notes())
    changed = Pipeline([other, checked], toy.store, toy.events.append).status()
    assert [status.fresh for status in changed] == [False, True]


def test_force_reruns_just_that_stage_where_its_output_stays_the_same(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path)
    planned = [status.name for status in toy.pipeline.status(force=["double"]) if not status.fresh]
    assert planned == ["double", "sum", "show"]
    toy.run(force=["double"])
    assert toy.notes.ran == ["double"]
    assert toy.notes.steps == [f"double {value}" for value in range(4)]
    assert StageStarted("double", "forced to run again") in toy.events


def test_from_reruns_a_stage_and_all_that_depend_on_it(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path)
    toy.run(from_stage="double")
    assert toy.notes.ran == ["double", "sum", "show"]
    toy.notes.ran.clear()
    toy.run(from_stage="double", until="sum")
    assert toy.notes.ran == ["double", "sum"]


@pytest.mark.parametrize("arguments", [{"until": "duoble"}, {"from_stage": "duoble"}, {"force": ["duoble"]}])
def test_a_misspelt_stage_is_a_usage_error_with_the_nearest_name(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as caught:
        Toy(tmp_path).run(**arguments)
    assert "no stage 'duoble'" in caught.value.message
    assert caught.value.hint == "Did you mean double? Stages: draw, double, alone, sum, show."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [{"from_stage": "show"}, {"force": ["alone"]}])
def test_a_stage_beyond_the_end_of_the_run_is_a_usage_error(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="the run stops at stage double"):
        Toy(tmp_path).run(until="double", **arguments)


def test_an_interrupted_forced_stage_stays_stale_until_it_is_done(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path)

    def stop_after_two_steps(event: object) -> None:
        if len(toy.notes.steps) == 2:
            raise KeyboardInterrupt

    stopped = Pipeline(toy.pipeline.stages, toy.store, stop_after_two_steps)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(from_stage="double")
    assert stopped.still_forced == ("sum", "show"), "that which was at work goes on without being named"
    after = Toy(tmp_path)
    assert after.stale()["double"] == (
        "a repeated run was interrupted; partly done: it will continue where it stopped"
    )
    after.run()
    assert after.notes.ran == ["double"]
    assert after.notes.steps == ["double 2", "double 3"]
    assert after.stale() == {}


def test_a_forced_stage_begins_anew_and_discards_what_an_unfinished_run_has_kept(tmp_path: Path) -> None:
    def interrupted(toy: Toy, **arguments: Any) -> None:
        def stop(event: object) -> None:
            if "draw 2" in toy.notes.steps:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Pipeline(toy.pipeline.stages, toy.store, stop).run(**arguments)

    interrupted(Toy(tmp_path))
    kept = Toy(tmp_path)
    kept.run(until="draw")
    assert kept.notes.steps == ["draw 3"], "without --force it goes on"

    for root in (tmp_path / "first", tmp_path / "again"):
        begun = Toy(root)
        if root.name == "again":
            begun.run()
            begun.notes.steps.clear()
            interrupted(begun, force=["draw"])
        else:
            interrupted(begun)
        forced = Toy(root)
        (status,) = [s for s in forced.pipeline.status(force=["draw"]) if s.name == "draw"]
        assert not status.partly_done and "from its start" in status.why
        assert [s.partly_done for s in forced.pipeline.status() if s.name == "draw"] == [True]
        forced.run(until="draw", force=["draw"])
        assert forced.notes.steps == [f"draw {row}" for row in range(4)]
        assert any(
            isinstance(event, Message) and "discarded the work of an unfinished run" in event.text
            for event in forced.events
        )
        assert forced.stale().keys().isdisjoint({"draw"})


def test_from_goes_on_with_what_an_unfinished_run_has_kept(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def stop(event: object) -> None:
        if "draw 2" in toy.notes.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(toy.pipeline.stages, toy.store, stop).run()
    again = Toy(tmp_path)
    again.run(from_stage="draw", until="draw")
    assert again.notes.steps == ["draw 3"]


def test_what_a_run_has_at_its_end_is_known_also_where_a_stage_fails(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run(until="draw")

    def fail(event: object) -> None:
        if isinstance(event, StageStarted) and event.stage == "sum":
            raise IntegrityError("sum failed.")

    pipeline = Pipeline(toy.pipeline.stages, toy.store, fail)
    with pytest.raises(IntegrityError):
        pipeline.run()
    assert list(pipeline.kept) == ["draw", "double", "alone"]
    record = toy.store.latest("draw")
    assert record is not None
    assert pipeline.kept["draw"] == record.seconds


# --- failures --------------------------------------------------------------------------------------------


def test_a_stage_that_fails_keeps_its_work_and_its_time(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    ticks = iter(range(0, 10_000, 10))

    def fail_once(event: object) -> None:
        toy.events.append(event)  # type: ignore[arg-type]
        if len(toy.notes.steps) == 3:
            toy.notes.steps.append("failure")
            raise IntegrityError("the third step failed.")

    pipeline = Pipeline(toy.pipeline.stages, toy.store, fail_once, clock=lambda: float(next(ticks)))
    with pytest.raises(IntegrityError):
        pipeline.run()
    (failed,) = [event for event in toy.events if isinstance(event, StageFailed)]
    assert (failed.stage, failed.reason) == ("draw", "the third step failed.")
    status = toy.pipeline.status()[0]
    assert status.partly_done
    assert status.why == "never ran; partly done: it will continue where it stopped"
    pipeline.run()
    assert toy.notes.steps[:5] == ["draw 0", "draw 1", "draw 2", "failure", "draw 3"]
    finished = next(event for event in toy.events if isinstance(event, StageFinished))
    assert finished.seconds == 10.0 + 10.0, "that of the run that failed and its own"


def test_a_stage_that_returns_something_else_is_our_bug(tmp_path: Path) -> None:
    class Wrong(Alone):
        output: ClassVar[type[Document]] = Numbers

    toy = Toy(tmp_path)
    with pytest.raises(TypeError, match="returned Total, not Numbers"):
        Pipeline([Wrong(1, toy.notes)], toy.store, toy.events.append).run()


@dataclass(frozen=True)
class Unplugged(Alone):
    def environment(self) -> dict[str, str]:
        raise NoUsableDeviceError("No phone is connected.")


def test_an_environment_that_cannot_be_read_is_shown_by_status_and_raised_by_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    draw, double, _, *rest = toy.pipeline.stages
    pipeline = Pipeline([draw, double, Unplugged(1, toy.notes), *rest], toy.store, toy.events.append)
    status = {status.name: status for status in pipeline.status()}
    assert status["draw"].fresh
    assert status["alone"].why == "cannot be determined: No phone is connected"
    assert isinstance(status["alone"].problem, NoUsableDeviceError)
    assert status["sum"].why == "its input `alone` is stale"
    with pytest.raises(NoUsableDeviceError):
        pipeline.run()


def test_a_missing_data_set_is_shown_by_status_too(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class NoImages(Alone):
        def environment(self) -> dict[str, str]:
            raise DatasetMissingError("The images are not here.") from OSError("network")

    toy = Toy(tmp_path)
    (status,) = Pipeline([NoImages(1, toy.notes)], toy.store, toy.events.append).status()
    assert isinstance(status.problem, DatasetMissingError)


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
@pytest.mark.parametrize("what", ["blob", "document"])
def test_a_damaged_artifact_is_named_and_made_again(tmp_path: Path, what: str, how: str) -> None:
    documents = Toy(tmp_path).run()
    toy = Toy(tmp_path)
    found = record(toy, "double")
    path = toy.store.object_path(found.output if what == "document" else found.blobs[0])
    if how == "flipped":
        flip_a_byte(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    stale = toy.stale()
    assert list(stale) == ["double", "sum", "show"]
    assert stale["double"].startswith(f"{path} is {'missing' if how == 'missing' else 'damaged'}")
    assert toy.run() == documents
    assert toy.notes.ran == ["double"]
    (warning,) = [event for event in toy.events if isinstance(event, Message)]
    assert warning.level == "warning"
    assert str(path) in warning.text
    assert "Stage double runs again and replaces it." in warning.text
    assert Toy(tmp_path).stale() == {}


def test_a_damaged_record_is_named_and_its_stage_runs_again(tmp_path: Path) -> None:
    documents = Toy(tmp_path).run()
    toy = Toy(tmp_path)
    path = toy.store.record_path("double", record(toy, "double").fingerprint)
    flip_a_byte(path)
    assert toy.stale()["double"] == f"{path} is damaged: its content does not match its checksum"
    assert toy.run() == documents
    assert toy.notes.ran == ["double"]
    assert any(isinstance(event, Message) and str(path) in event.text for event in toy.events)
    assert Toy(tmp_path).stale() == {}


def test_a_removed_record_is_told_of(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    Toy(tmp_path, rows=5).run()
    toy = Toy(tmp_path, rows=5)
    toy.store.record_path("draw", record(toy, "draw").fingerprint).unlink()
    assert toy.stale()["draw"] == "setting `draw.rows` changed from 4 to 5"


def test_damaged_scratch_costs_work_and_nothing_else(tmp_path: Path) -> None:
    expected = Toy(tmp_path / "whole").run()
    toy = Toy(tmp_path / "damaged")

    def stop(event: object) -> None:
        if "double 2" in toy.notes.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(toy.pipeline.stages, toy.store, stop).run()
    (folder,) = toy.store.scratch_folders("double")
    flip_a_byte(folder / "checkpoint.entry")
    after = Toy(tmp_path / "damaged")
    assert after.run() == expected
    assert after.notes.steps == [f"double {step}" for step in range(4)]
    (warning,) = [event for event in after.events if isinstance(event, Message)]
    assert "checkpoint.entry is damaged" in warning.text


# --- estimates, validity, speed -----------------------------------------------------------------------


def test_documents_that_were_made_elsewhere_are_adopted_and_nothing_of_them_runs(tmp_path: Path) -> None:
    made = Toy(tmp_path / "elsewhere").run(until="double")
    toy = Toy(tmp_path / "here")
    for blob in blobs_of(list(made.values())):
        toy.store.put_bytes(Toy(tmp_path / "elsewhere").store.read_bytes(blob), blob.suffix)
    toy.pipeline.adopt(made)
    assert {name: toy.stale().get(name) for name in ("draw", "double")} == {"draw": None, "double": None}
    toy.run()
    assert not {"draw", "double"} & set(toy.notes.ran)
    assert Toy(tmp_path / "here", rows=5).stale()["draw"].startswith("setting `draw.rows`")
    assert Toy(tmp_path / "here", rows=5).pipeline.status()[0].estimate_seconds == 10.0


def test_the_estimate_is_the_stages_guess_until_it_has_run_and_then_scales_its_time(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    assert toy.pipeline.status()[0].estimate_seconds == 8.0
    ticks = iter(range(0, 100_000, 6))
    Pipeline(toy.pipeline.stages, toy.store, toy.events.append, clock=lambda: float(next(ticks))).run()
    seconds = record(toy, "draw").seconds
    assert seconds >= 6
    assert toy.pipeline.status()[0].estimate_seconds == seconds
    assert Toy(tmp_path, rows=8).pipeline.status()[0].estimate_seconds == 2 * seconds
    assert toy.pipeline.status()[1].estimate_seconds == record(toy, "double").seconds


def stage(name: object = "alone", inputs: dict[str, str] | None = None, after: tuple[str, ...] = ()) -> Stage:
    kind = Show if inputs else Alone
    made = type("Made", (kind,), {"name": name, "inputs": inputs or {}, "after": after})
    built: Stage = made(1, Notes())
    return built


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ([stage("Alone")], "lower-case"),
        ([stage("../alone")], "lower-case"),
        ([stage(), stage()], "two stages"),
        ([stage("show", {"total": "alone"})], "which no earlier stage makes"),
        ([stage(), stage("show", {"totals": "alone"})], "takes no parameter 'totals'"),
        (
            [stage("later", after=("alone",)), stage()],
            "stage 'later' comes after 'alone', which is not an earlier stage",
        ),
    ],
)
def test_stages_that_do_not_fit_together_are_refused(
    tmp_path: Path, stages: list[Stage], problem: str
) -> None:
    toy = Toy(tmp_path)
    with pytest.raises(ValueError, match=problem):
        Pipeline(stages, toy.store, toy.events.append)


def test_a_stage_may_take_its_inputs_by_keyword(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Keywords(Sum):
        notes: Notes = field(metadata=TOOL)

        def run(self, context: Context, **inputs: Any) -> Total:
            return super().run(context, inputs["doubled"], inputs["other"])

    toy = Toy(tmp_path)
    stages = [*toy.pipeline.stages[:3], Keywords(SumConfig(), toy.notes)]
    assert Pipeline(stages, toy.store, toy.events.append).run() == Toy(tmp_path).run(until="sum")


def test_other_code_makes_no_stage_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what raises a stage's version does: a comment is code, too."""
    Toy(tmp_path).run()
    monkeypatch.setattr("pipeline.store.records.code_sha256", lambda: "0" * 64)
    assert not Toy(tmp_path).stale()


def test_a_fresh_run_takes_a_moment(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    toy = Toy(tmp_path)
    started = time.process_time()
    toy.stale()
    toy.run()
    assert time.process_time() - started < 0.25


def test_the_engine_loads_nothing_heavy() -> None:
    heavy = ["numpy", "torch", "tensorflow", "onnx", "scipy", "rich", "yaml", "filelock", "matplotlib"]
    program = (
        "import sys, pipeline.runner, pipeline.config.loader, pipeline.reporters.reporters, pipeline.signals;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_settings_of_tools_do_not_enter_the_fingerprint() -> None:
    first = Draw(DrawConfig(), 1, Notes())
    second = Draw(DrawConfig(), 1, Notes(ran=["something"]))
    assert first.fingerprint({}) == second.fingerprint({}, {"device_model": "toy"})
    assert first.fingerprint({}) != second.fingerprint({}, {"device_model": "phone"})
