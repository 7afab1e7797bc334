"""``nasflow run`` through the real engine and store, over stages that do no work."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.toy_pipeline import ToyPipeline

from nasflow.base.errors import (
    DatasetMissingError,
    InconclusiveError,
    InfeasibleTargetError,
    NasflowError,
    TrainingDivergedError,
)
from nasflow.cli.perform import perform
from nasflow.cli.request import STAGE_NAMES, Outcome, RunOptions, Selection
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from pipeline.stage import Context
from stages.space.search_space import NetConfig

Run = Callable[..., tuple[int, dict[str, Any], str]]
TOY = ToyPipeline()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text("seed: 5\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run with ``--json``; return exit code, document and what was told on standard error."""

    def run(toy: ToyPipeline = TOY, *assignments: str, **options: Any) -> tuple[int, Any, str]:
        selection = Selection(folder / "pipeline.yaml", assignments)
        chosen = RunOptions(selection, as_json=True, **options)

        def action() -> Outcome:
            return run_pipeline(chosen, open_project(selection, toy))

        code = perform(lambda: action, "nasflow run", as_json=True)
        out, err = capfd.readouterr()
        return code, json.loads(out), err

    return run


def _actions(document: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["action"] for stage in document["stages"]}


def test_a_run_leaves_its_results_where_people_find_them(run: Run, folder: Path) -> None:
    code, document, _ = run()
    latest = folder / "artifacts" / "latest"
    assert (code, document["verdict"]) == (0, "ungated")
    assert _actions(document) == dict.fromkeys(STAGE_NAMES, "run")
    assert document["files"] == {name: str(latest / name) for name in document["files"]}
    assert {path.name for path in latest.iterdir()} == {*document["files"], "manifest.json"}
    result = json.loads((latest / "result.json").read_bytes())
    assert document.items() >= result.items()
    assert result["run"]["seed"] == 5
    assert "<html" in (latest / "report.html").read_text(encoding="utf-8")
    net = NetConfig.model_validate_json((latest / "network.json").read_bytes())
    assert net.parameters == result["network"]["parameters"]


def test_the_network_files_are_the_stores_own(run: Run, folder: Path) -> None:
    run()
    latest, objects = folder / "artifacts" / "latest", folder / "artifacts" / "objects"
    for name in ("network.tflite", "network.safetensors"):
        content = (latest / name).read_bytes()
        assert content in [path.read_bytes() for path in objects.rglob(f"*{Path(name).suffix}")]


def test_a_second_run_does_nothing_and_says_so(run: Run, folder: Path) -> None:
    run()
    before = {path: path.stat().st_mtime_ns for path in (folder / "artifacts" / "latest").iterdir()}
    code, document, _ = run()
    assert code == 0
    assert document["nothing_to_do"]
    assert _actions(document) == dict.fromkeys(STAGE_NAMES, "fresh")
    assert document["network"]["parameters"] > 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_for_a_person_the_table_and_the_files_are_printed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    selection = Selection(folder / "pipeline.yaml")
    for _ in range(2):
        outcome = run_pipeline(RunOptions(selection), open_project(selection, ToyPipeline()))
    assert "mobilenet_v2_0.5" in outcome.text
    assert str(folder / "artifacts" / "latest" / "report.html") in outcome.text
    assert outcome.text.endswith("Nothing to do: all 9 stages are up to date.")
    out, err = capfd.readouterr()
    assert out == ""
    assert "verify" in err


@pytest.mark.parametrize(("verdict", "code"), [("ungated", 0), ("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_the_verdict_decides_the_exit_code(run: Run, verdict: str, code: int) -> None:
    toy = ToyPipeline(verification={"verdict": verdict, "max_ratio": None if verdict == "ungated" else 0.8})
    seen, document, _ = run(toy)
    assert (seen, document["exit_code"], document["verdict"]) == (code, code, verdict)
    assert run(toy)[0] == code, "a fresh result keeps its verdict"


def test_damaged_and_missing_results_are_made_again(run: Run, folder: Path) -> None:
    run()
    latest = folder / "artifacts" / "latest"
    whole = {path: path.read_bytes() for path in latest.iterdir()}
    for name in ("network.tflite", "report.html"):
        (latest / name).write_bytes(whole[latest / name][:-1])
    (latest / "result.json").unlink()
    code, document, err = run()
    assert (code, document["nothing_to_do"]) == (0, True)
    for name in ("network.tflite", "report.html"):
        assert f"{latest / name} was changed or damaged; it is written again." in err
    assert {path: path.read_bytes() for path in latest.iterdir()} == whole
    assert "was changed or damaged" not in run()[2]


def test_a_lost_manifest_is_made_again(run: Run, folder: Path) -> None:
    run()
    latest = folder / "artifacts" / "latest"
    (latest / "manifest.json").write_text("{", encoding="utf-8")
    run()
    assert json.loads((latest / "manifest.json").read_bytes())["sha256"].keys() == {
        path.name for path in latest.iterdir()
    } - {"manifest.json"}


def test_until_stops_early_and_publishes_nothing(run: Run, folder: Path) -> None:
    code, document, _ = run(until="latency")
    assert code == 0
    assert _actions(document) == {"profile": "run", "latency": "run"}
    assert (document["verdict"], document["files"]) == (None, {})
    assert not (folder / "artifacts" / "latest").exists()


def test_one_forced_stage_runs_alone_where_it_makes_the_same(run: Run) -> None:
    run()
    _, document, _ = run(force=("search",))
    assert {name for name, action in _actions(document).items() if action == "run"} == {"search"}


def test_from_runs_a_stage_and_all_that_depend_on_it(run: Run) -> None:
    run()
    _, document, _ = run(from_stage="finetune")
    ran = [name for name, action in _actions(document).items() if action == "run"]
    assert ran == ["finetune", "convert", "verify"]


def test_a_dry_run_says_what_and_how_long_and_does_nothing(run: Run, folder: Path) -> None:
    code, document, _ = run(dry_run=True)
    assert code == 0
    assert [stage["name"] for stage in document["stages"]] == list(STAGE_NAMES)
    assert document["estimate_seconds"] == 9 * 60
    assert document["stages"][0]["why"] == "never ran"
    assert not (folder / "artifacts").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_prints_the_command_that_resumes(
    run: Run, folder: Path, number: signal.Signals, code: int
) -> None:
    def stop(context: Context) -> None:
        context.scratch.save("half", b"work")
        os.kill(os.getpid(), number)
        context.progress(1, 2, "steps")

    toy = ToyPipeline(work={"search": stop})
    seen, document, err = run(toy, "seed=9", force=("profile",), until="convert")
    config = shlex.quote(f"{folder}/pipeline.yaml")
    command = f"nasflow run --config {config} --set seed=9 --until convert --json"
    assert seen == document["error"]["exit_code"] == code
    assert document["error"]["hint"].endswith(f"Continue with: {command}")
    assert f"hint: {document['error']['hint']}" in err
    _, document, _ = run(ToyPipeline(), "seed=9", until="convert")
    assert _actions(document)["latency"] == "fresh"
    assert "partly done" in document["stages"][3]["reason"]


def test_an_interrupted_forced_stage_is_forced_again_when_resumed(run: Run) -> None:
    run()

    def stop(context: Context) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        context.progress(1, 2, "steps")

    _, document, _ = run(ToyPipeline(work={"profile": stop}), force=("profile", "search"))
    assert document["error"]["hint"].endswith("--force search --json"), "profile goes on where it was"


def test_a_stages_error_is_told_with_its_own_fields_and_kept_in_the_log(run: Run, folder: Path) -> None:
    def diverge(context: Context) -> None:
        raise TrainingDivergedError(
            "The loss is NaN at step 12.", step=12, hint="Lower search.learning_rate."
        )

    code, document, err = run(ToyPipeline(work={"search": diverge}))
    assert code == 9
    hint = document["error"]["hint"]
    assert hint.startswith("Lower search.learning_rate. Kept: profile, latency and precheck (")
    assert hint.endswith(f" of work). Continue with: nasflow run --config {folder}/pipeline.yaml --json")
    assert document["error"] == {
        "reference": "training-diverged",
        "type": "TrainingDivergedError",
        "message": "The loss is NaN at step 12.",
        "hint": hint,
        "exit_code": 9,
        "step": 12,
    }
    assert "error: The loss is NaN at step 12." in err
    (log,) = (folder / "artifacts" / "runs").glob("*/run.log")
    assert "TrainingDivergedError: The loss is NaN at step 12." in log.read_text(encoding="utf-8")


def test_an_unforeseen_exception_names_the_log_that_has_it_all(run: Run, folder: Path) -> None:
    def fail(context: Context) -> None:
        raise KeyError("weights")

    code, document, err = run(ToyPipeline(work={"search": fail}))
    assert (code, document["error"]["type"]) == (70, "KeyError")
    (log,) = (folder / "artifacts" / "runs").glob("*/run.log")
    assert f"The run's log: {log}" in err
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_full_disk_is_the_machines_fault(run: Run) -> None:
    def fill(context: Context) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/model.tflite")

    code, document, _ = run(ToyPipeline(work={"convert": fill}))
    assert (code, document["error"]["type"]) == (8, "MachineError")
    assert "no space is left" in document["error"]["message"]
    assert "/somewhere/model.tflite" in document["error"]["message"]


def test_a_missing_package_is_the_machines_fault(run: Run) -> None:
    def need(context: Context) -> None:
        raise ModuleNotFoundError("No module named 'safetensors'", name="safetensors.torch")

    code, document, _ = run(ToyPipeline(work={"search": need}))
    assert code == 8
    assert "'safetensors' is not installed" in document["error"]["message"]
    assert "nasflow doctor" in document["error"]["hint"]


def test_two_runs_in_one_folder_are_refused(run: Run, folder: Path) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []

    def run_inside(context: Context) -> None:
        selection = Selection(folder / "pipeline.yaml")
        with pytest.raises(Exception, match="Another run uses") as caught:
            run_pipeline(RunOptions(selection), open_project(selection, ToyPipeline()))
        seen.append((getattr(caught.value, "exit_code", 0), {}))

    code, _, _ = run(ToyPipeline(work={"profile": run_inside}))
    assert code == 0
    assert seen == [(8, {})]


def test_an_artifacts_folder_that_cannot_be_made_is_told(run: Run, folder: Path) -> None:
    (folder / "file").touch()
    code, document, _ = run(TOY, "artifacts=file")
    assert (code, document["error"]["type"]) == (8, "MachineError")
    assert str(folder / "file") in document["error"]["message"]


def test_a_run_says_beforehand_how_much_there_is_to_do(run: Run) -> None:
    assert "9 stages to run, about 9 min 00 s." in run()[2]
    assert "to do" not in run()[2]


def test_offline_missing_images_are_told_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.fashion_mnist.DEBIAN_FOLDER", tmp_path / "no-package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    selection = Selection(folder / "pipeline.yaml", offline=True)
    with pytest.raises(DatasetMissingError, match="offline it is not downloaded"):
        run_pipeline(RunOptions(selection, until="baseline"), open_project(selection))
    assert not list((folder / "artifacts").glob("scratch/*"))


@pytest.mark.parametrize(("error", "code"), [(InfeasibleTargetError, 2), (InconclusiveError, 3)])
def test_a_command_that_would_end_the_same_way_is_not_offered(
    run: Run, error: type[NasflowError], code: int
) -> None:
    def give_up(context: Context) -> None:
        raise error("No network keeps 1 ms.", hint="Measure them again: nasflow run --force prune.")

    seen, document, _ = run(ToyPipeline(work={"prune": give_up}), "seed=9")
    hint = document["error"]["hint"]
    assert seen == code
    assert "Kept: profile, latency, precheck and search (" in hint
    assert "Continue with" not in hint


def test_commands_in_a_stages_words_are_for_this_configuration(run: Run, folder: Path) -> None:
    def warn_and_fail(context: Context) -> None:
        context.warn("Quieten it and run 'nasflow run --force verify'.")
        raise InconclusiveError(
            "It cannot be determined.", hint="Again: nasflow run --force prune. nasflow runs."
        )

    _, document, err = run(ToyPipeline(work={"prune": warn_and_fail}), "seed=9")
    command = f"nasflow run --config {shlex.quote(str(folder / 'pipeline.yaml'))} --set seed=9"
    assert document["error"]["hint"].startswith(f"Again: {command} --force prune. nasflow runs. Kept")
    assert f"run '{command} --force verify'" in err


def test_the_device_and_the_seed_of_a_run_are_in_the_commands_that_it_names() -> None:
    selection = Selection(Path("my project/p.yaml"), ("a.b=1",), device="android:X 1", seed="4")
    told = RunOptions(selection).with_selection(
        "Do: nasflow run --set prune.target_ms=2. Not nasflow runner."
    )
    assert told == (
        "Do: nasflow run --config 'my project/p.yaml' --set a.b=1 --device 'android:X 1' --seed 4 "
        "--set prune.target_ms=2. Not nasflow runner."
    )
