"""Reading the command line: help, usage errors, and what leaves the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nasflow.base.errors import ConfigError, RunInterruptedError, TrainingDivergedError
from nasflow.cli import console
from nasflow.cli.app import main
from nasflow.cli.options import selection
from nasflow.cli.request import STAGE_NAMES, RunOptions, Selection
from nasflow.config import PipelineConfig
from nasflow.reference import pipeline_yaml
from pipeline.config.loader import load_config

COMMANDS = ("run", *STAGE_NAMES, "status", "report", "clean", "doctor", "init", "devices", "virtual-phone")
HEAVY = (
    "torch",
    "tensorflow",
    "onnx",
    "numpy",
    "scipy",
    "matplotlib",
    "rich",
    "yaml",
    "adb_shell",
    "adbutils",
)


def test_no_help_page_loads_anything_heavy() -> None:
    program = f"""
import json, sys
from nasflow.cli.app import main
pages = [[], ["--help"], ["--version"], *([name, "--help"] for name in {COMMANDS!r})]
codes = [main(page) for page in pages]
print(json.dumps([codes, sorted(set({HEAVY!r}) & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    codes, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert set(codes) == {0}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_offers_json(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    page = capfd.readouterr().out
    assert page.startswith(f"Usage: nasflow {command} ")
    assert "--json" in page


def test_the_first_page_names_every_command_in_full(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capfd.readouterr().out
    assert all(f"\n  {command} " in page for command in COMMANDS)
    assert "..." not in page.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--bogus"], "--bogus"),
        (["serach"], "serach"),
        (["run", "--until", "serach"], "'serach' is not one of"),
        (["run", "--force"], "--force"),
        (["run", "profile"], "profile"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_a_hint_and_exit_2(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: Try 'nasflow")


def test_with_json_a_mistake_on_the_command_line_is_one_document(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--form", "search", "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert error["type"] == "UsageError"
    assert error["exit_code"] == 2
    assert "--from" in error["message"]


def test_nothing_but_the_document_reaches_standard_output() -> None:
    program = """
import os, subprocess, sys
from nasflow.cli import console
with console.reserved_stdout(True) as stdout:
    print("from python")
    os.write(1, b"from C\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"])
    console.write_json(stdout, {"a": 1})
print("after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.removesuffix("after\n")) == {"a": 1}
    assert done.stdout.endswith("after\n")
    assert {"from python", "from C", "from a child"} <= set(done.stderr.splitlines())


def test_a_reader_that_goes_away_is_not_an_error() -> None:
    program = "import sys; from nasflow.cli import console; console.write(sys.stdout, 'x' * 100)"
    read, written = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=written, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_fields_of_an_error_stand_in_its_document(capfd: pytest.CaptureFixture[str]) -> None:
    error = ConfigError(
        "pipeline.yaml: seach: unknown key.",
        source="pipeline.yaml",
        key="seach",
        value=float("nan"),
        hint="Did you mean 'search'?",
    )
    with console.reserved_stdout(True) as stdout:
        assert console.report_error(error, stdout, as_json=True) == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["error"] == {
        "reference": "configuration",
        "type": "ConfigError",
        "message": "pipeline.yaml: seach: unknown key.",
        "hint": "Did you mean 'search'?",
        "exit_code": 2,
        "source": "pipeline.yaml",
        "key": "seach",
        "value": "nan",
    }
    assert err == "error: pipeline.yaml: seach: unknown key.\nhint: Did you mean 'search'?\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunInterruptedError("Stopped.", signal_number=2), 130),
        (RunInterruptedError("Stopped.", signal_number=15), 143),
        (TrainingDivergedError("The loss is NaN.", step=7), 9),
    ],
)
def test_an_error_has_its_exit_code(
    error: RunInterruptedError | TrainingDivergedError, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with console.reserved_stdout(False) as stdout:
        assert console.report_error(error, stdout, as_json=False) == code
    assert capfd.readouterr().out == ""


def test_an_error_is_told_in_one_line_even_if_its_message_has_several(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with console.reserved_stdout(False) as stdout:
        console.report_error(TrainingDivergedError("The loss\nis NaN.", step=7), stdout, as_json=False)
    assert capfd.readouterr().err == "error: The loss is NaN.\n"


def test_an_unforeseen_exception_shows_its_traceback_and_exits_70(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasflow.commands.init.pipeline_yaml", lambda: 1 / 0)
    assert main(["init", str(tmp_path), "--json"]) == 70
    out, err = capfd.readouterr()
    assert json.loads(out)["error"]["type"] == "ZeroDivisionError"
    assert "Traceback (most recent call last)" in err
    assert "please report it" in err


def test_a_working_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    program += "from nasflow.__main__ import main; import sys; sys.argv[1:] = ['status']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 8, done.stderr
    assert done.stderr.startswith("error: The working directory has been removed.")


def test_a_folder_whose_name_is_no_utf_8_is_given_back_as_it_is(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xe4"  # an umlaut in Latin-1
    os.mkdir(folder)  # noqa: PTH102 - a path of bytes
    for words in (["init"], ["status", "--json"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "nasflow", *words],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)["config"]
    assert config.encode("utf-8", "surrogateescape") == os.path.realpath(folder) + b"/pipeline.yaml"


def test_the_command_that_resumes_selects_the_same_run_and_repeats_no_force() -> None:
    options = RunOptions(
        selection=Selection(
            Path("my project/pipeline.yaml"), ("search.epochs=3",), "local", "7", offline=True
        ),
        from_stage="search",
        until="verify",
        force=("profile",),
    )
    assert options.resume_command() == (
        "nasflow run --config 'my project/pipeline.yaml' --set search.epochs=3 --device local --seed 7 "
        "--offline --until verify"
    )


def test_options_win_over_assignments() -> None:
    assert Selection(assignments=("seed=1",), seed="2").overrides == ("seed=1", "seed=2")
    assert Selection(assignments=("offline=false",), offline=True).overrides[-1] == "offline=true"


def test_a_front_is_ten_further_networks_and_wins_over_assignments() -> None:
    chosen = selection(None, ["target.front=3"], None, None, front=True)
    assert load_config(PipelineConfig, None, chosen.overrides).target.front == 10
    chosen = selection(None, ["target.front=3"], None, None)
    assert load_config(PipelineConfig, None, chosen.overrides).target.front == 3


@pytest.mark.parametrize(
    ("words", "last"),
    [(["search"], "search"), (["search", "--front"], "prune"), (["finetune", "--front"], "finetune")],
)
def test_a_search_for_a_front_goes_on_until_its_networks_are_picked(
    words: list[str], last: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert main([*words, "--config", str(tmp_path / "pipeline.yaml"), "--dry-run", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [stage["name"] for stage in document["stages"]][-1] == last


def test_a_stage_that_finds_no_network_takes_no_front(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--front", "--dry-run"]) == 2
    assert "use --front with 'search' or 'run'" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"], ["search", "--dry-run"]])
def test_a_setting_that_cannot_work_is_refused_before_anything_is_measured(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text("space: {resolution: 64}\n", encoding="utf-8")
    assert main([*words, "--config", str(tmp_path / "pipeline.yaml"), "--json"]) == 2
    out, err = capfd.readouterr()
    assert "space fashion is for images of 64 pixels" in json.loads(out)["error"]["message"]
    assert '"event": "stage' not in err
    assert not list(tmp_path.glob("artifacts/records/*"))


def test_of_two_kinds_of_target_the_option_wins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline_yaml(), encoding="utf-8")
    config = load_config(PipelineConfig, path, ["target.ms=0.12"])
    assert config.target.first == 0.12
    both = ["run", "--dry-run", "--config", str(path), "--set", "target={ms: 0.12, ratio: 0.4}"]
    assert main(both) == 2
    said = capfd.readouterr().err
    assert "ms (0.12) and ratio (0.4) are two targets: remove one of them, or set it to null" in said


@pytest.mark.parametrize("command", ["run", *STAGE_NAMES, "bench", "doctor"])
def test_whatever_may_download_can_be_kept_from_it(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--offline" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("nasflow ru", ["run"]),
        ("nasflow run --fro", ["--from", "--front"]),
        ("nasflow latency ex", ["export"]),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    asked = {
        "_NASFLOW_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    command = [sys.executable, "-m", "nasflow"]
    answered = subprocess.run(
        command,
        env={**os.environ, **asked},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answered.stdout.split() == offered
