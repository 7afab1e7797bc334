"""``nasflow verify MODEL`` as a team's CI calls it: on this computer and on the virtual phone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from ai_edge_litert import schema_py_generated as schema
from support.command_line import ProjectFolder
from support.operator_models import one_operator

from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from stages.conversion.flatbuffer import network_model
from stages.space.mobilenet_v2 import mobilenet_v2


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of gates are kept in the account's cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))


@pytest.fixture
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProjectFolder]:
    """Two models and no configuration: the second takes several times as long."""
    for name, width in (("small", 0.35), ("large", 1.0)):
        model = network_model(mobilenet_v2(resolution=64, classes=10, width=width))
        (tmp_path / f"{name}.tflite").write_bytes(model)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        yield ProjectFolder(tmp_path)


def called_nasflow(folder: Path) -> None:
    """A program ``nasflow`` that is this one."""
    folder.mkdir(parents=True)
    program = folder / "nasflow"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nasflow "$@"\n')
    program.chmod(0o755)


def in_a_shell(
    folder: ProjectFolder, script: str, given: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """As GitHub runs a step."""
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder.path,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )


def junit_case(path: Path) -> ElementTree.Element:
    """The one test case of a file."""
    (case,) = ElementTree.parse(path).getroot().iter("testcase")
    return case


def test_a_gate_that_passes_leaves_all_that_a_ci_shows_and_can_be_recomputed(folder: ProjectFolder) -> None:
    words = ("small.tflite", "--against", "mobilenet_v2", "--max-ratio", "0.9")
    files = ("--junit", "out/junit.xml", "--summary", "summary.md", "--history", "history.jsonl")
    answer = folder.ask("verify", *words, *files)
    assert answer.exit_code == 0, answer.document
    assert answer.document["verdict"] == "pass"
    assert len(answer.document["blocks"]) >= 10
    look = answer.document["looks"][-1]
    assert look["ratio_interval"][0] < look["ratio"] < look["ratio_interval"][1] < 0.9
    case = junit_case(folder.path / "out" / "junit.xml")
    assert [child.tag for child in case] == ["system-out"]
    assert (folder.path / "summary.md").read_text().startswith("### PASS: ")

    again = folder.ask("verify", "--recompute", "gate.json")
    assert (again.exit_code, again.document["looks"]) == (0, answer.document["looks"])
    drawn = folder.call("history", "history.jsonl", "--plot", "history.svg")
    assert "pass" in drawn.stdout
    assert ElementTree.parse(folder.path / "history.svg").getroot().tag.endswith("svg")

    stored = json.loads((folder.path / "gate.json").read_text())
    for block in stored["blocks"]:
        for timing in block["timings"]:
            timing["median_ms"] *= 10 if timing["model"] == "candidate" else 1
    (folder.path / "changed.json").write_text(json.dumps(stored))
    changed = folder.ask("verify", "--recompute", "changed.json")
    assert changed.exit_code == 7
    assert "says pass, but its own timings give fail" in changed.document["error"]["message"]


def test_a_gate_that_fails_is_a_failure_and_exits_with_1(folder: ProjectFolder) -> None:
    words = ("large.tflite", "--against", "small.tflite", "--max-ratio", "1", "--max-ms", "1000")
    answer = folder.ask("verify", *words, "--junit", "junit.xml")
    assert (answer.exit_code, answer.document["verdict"]) == (1, "fail")
    (failure,) = junit_case(folder.path / "junit.xml").iter("failure")
    assert "above the limit of 1" in str(failure.get("message"))


def test_what_cannot_be_judged_is_refused_before_anything_is_measured(folder: ProjectFolder) -> None:
    (folder.path / "notes.tflite").write_text("not a model")
    against = ("--against", "large.tflite")
    cases: list[tuple[tuple[str, ...], str]] = [
        (("small.tflite", *against), "a gate needs a limit"),
        (("small.tflite", *against, "--max-ratio", "0"), "--max-ratio"),
        (("small.tflite", *against, "--max-ratio", "-1"), "--max-ratio"),
        (("small.tflite", *against, "--max-ratio", "nan"), "--max-ratio"),
        (("small.tflite", *against, "--max-ratio", "1", "--max-blocks", "3"), "--max-blocks"),
        (("small.tflite", "--max-ratio", "1"), "need --against"),
        (("--max-ratio", "1"), "need a model"),
        (("small.tflite", *against, "--max-ratio", "1", "--dry-run"), "belong to the stage"),
        (("nothere.tflite", *against, "--max-ratio", "1"), "does not exist"),
        (("notes.tflite", *against, "--max-ratio", "1"), "not a .tflite model"),
        (("small.tflite", "--against", ".", "--max-ratio", "1"), "a folder without"),
        (("small.tflite", "--against", "mobilenet_v2:9", "--max-ratio", "1"), "cannot be made"),
        (("small.tflite", *against, "--max-ratio", "1", "--junit", "."), "is a folder"),
        (("--recompute", "nothere.json"), "does not exist"),
        (("--recompute", "notes.tflite"), "is no result of a gate"),
    ]
    for words, said in cases:
        answer = folder.ask("verify", *words)
        assert answer.exit_code == 2, (words, answer.document)
        assert said in answer.document["error"]["message"], words
        assert not [event for event in answer.events if event["event"] == "progress"]
    assert "error" in json.loads((folder.path / "gate.json").read_text())


@pytest.mark.needs("bubblewrap")
def test_a_gate_on_a_phone_that_fails_says_so_in_its_junit_file(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    phone.faults.set(FaultPlan(tool_signal=11))
    on_it = ("--device", f"android:{phone.address}")
    answer = folder.ask(
        "verify", "small.tflite", "--against", "large.tflite", "--max-ratio", "1", "--junit", "j.xml", *on_it
    )
    assert answer.exit_code == 5
    (error,) = junit_case(folder.path / "j.xml").iter("error")
    assert "SIGSEGV" in str(error.get("message"))


@pytest.mark.needs("bubblewrap")
def test_a_gate_on_a_phone_goes_on_where_it_was_stopped(phone: VirtualPhone, folder: ProjectFolder) -> None:
    words = ("verify", "small.tflite", "--against", "large.tflite", "--max-ratio", "0.9", "--max-blocks", "6")
    on_it = ("--device", f"android:{phone.address}")
    with folder.started(*words, *on_it) as running:
        running.wait_for(lambda event: event["event"] == "progress")
        running.process.send_signal(signal.SIGINT)
        assert running.ends().exit_code == 130
    answer = folder.ask(*words, *on_it)
    assert answer.exit_code == 0, answer.document
    assert any(text.startswith("going on after") for text in answer.texts)
    assert answer.document["device"]["virtual"] is True
    assert answer.document["outputs"]["inputs"] == 4, "the classic tool writes what the model answers"
    kept = folder.path / "home" / "cache" / "nasflow" / "gates"
    assert not list(kept.iterdir()), "a finished gate keeps no blocks"


@pytest.mark.needs("bubblewrap")
@pytest.mark.needs("bash")
def test_the_action_measures_on_the_phone_and_names_its_files(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    action = yaml.safe_load((Path(__file__).parents[2] / "action.yml").read_text(encoding="utf-8"))
    (step,) = (step for step in action["runs"]["steps"] if step.get("id") == "gate")
    called_nasflow(folder.path / "temp" / "nasflow" / "bin")
    (folder.path / "examples with a space").mkdir()
    example = np.linspace(-1, 1, 64 * 64 * 3, dtype=np.float32).reshape(64, 64, 3)
    np.save(folder.path / "examples with a space" / "one.npy", example)
    given = {
        "MODEL": "large.tflite",
        "AGAINST": "small.tflite",
        "MAX_RATIO": "1",
        "MAX_MS": "",
        "MAX_BLOCKS": "10",
        "MAX_ACCURACY_DROP": "",
        "DATA": "",
        "MEAN": "",
        "STD": "",
        "DEVICE": f"android:{phone.address}",
        "ALL_PHONES": "false",
        "SIDE_BY_SIDE": "false",
        "INPUTS": "examples with a space",
        "REQUIRE_OUTPUTS": "true",
        "ALLOW_INCONCLUSIVE": "false",
        "HISTORY": "",
        "CONFIG": "",
        "SETTINGS": "seed=3\n\nruntime.threads=1\n",
        "OFFLINE": "true",
    }
    assert given.keys() == step["env"].keys()
    files = {
        "GITHUB_OUTPUT": str(folder.path / "output"),
        "GITHUB_STEP_SUMMARY": str(folder.path / "summary"),
    }
    done = in_a_shell(folder, step["run"], {**given, **files, "RUNNER_TEMP": str(folder.path / "temp")})
    assert done.returncode == 1, done.stderr
    named = dict(line.split("=") for line in (folder.path / "output").read_text().split())
    assert all((folder.path / name).is_file() for name in named.values())
    assert (folder.path / "summary").read_text().startswith("### FAIL")
    stored = json.loads((folder.path / "gate.json").read_text())
    assert (stored["outputs"]["inputs"], stored["outputs"]["given"]) == (1, True)
    assert (stored["plan"]["max_blocks"], stored["plan"]["seed"]) == (10, 3)


@pytest.mark.needs("bubblewrap")
@pytest.mark.needs("bash")
def test_the_workflow_of_the_examples_measures_on_the_phone_and_keeps_a_history(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    workflow = yaml.safe_load((Path(__file__).parents[2] / "examples" / "ci" / "gate.yml").read_text("utf-8"))
    steps = [step for step in workflow["jobs"]["gate"]["steps"] if "nasflow " in step.get("run", "")]
    scripts = [step["run"] for step in steps if "pip install" not in step["run"]]
    assert len(scripts) == 3, "the phone's state, the gate, the history"
    called_nasflow(folder.path / "bin")
    for ours, theirs in (("ours", "small"), ("theirs", "large")):
        model = folder.path / ours / workflow["env"]["MODEL"]
        model.parent.mkdir(parents=True)
        model.write_bytes((folder.path / f"{theirs}.tflite").read_bytes())
    given = {
        **workflow["env"],
        "DEVICE": f"android:{phone.address}",
        "GITHUB_STEP_SUMMARY": str(folder.path / "summary"),
        "PATH": f"{folder.path / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    for script in scripts:
        done = in_a_shell(folder, script.replace("--max-ratio", "--max-blocks 6 --max-ratio"), given)
        assert done.returncode == 0, (script, done.stderr)
    assert (folder.path / "summary").read_text().count("### PASS") == 2
    history = folder.path / "home" / "latency-history.jsonl"
    assert len(history.read_text().splitlines()) == 1
    (upload,) = (
        step["with"] for step in workflow["jobs"]["gate"]["steps"] if "upload" in step.get("uses", "")
    )
    assert all((folder.path / name).is_file() for name in upload["path"].split())


# --- what an error leaves ----------------------------------------------------------------------------


def test_an_error_leaves_nothing_of_an_earlier_gate_and_says_so_in_every_file(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    (folder.path / "gate.json").write_text('{\n "plan": "of an earlier gate, which passed"\n}')
    (folder.path / "j.xml").write_text("<testsuites/>")
    (folder.path / "summary.md").write_text("before\n")
    words = ("--max-ratio", "1", "--junit", "j.xml", "--summary", "summary.md")
    done = folder.call("verify", "nothere.tflite", "--against", "small.tflite", *words)
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=nasflow verify::nothere.tflite does not exist")
    stored = json.loads((folder.path / "gate.json").read_text())
    assert (stored["error"]["exit_code"], stored["blocks"]) == (2, [])
    (error,) = junit_case(folder.path / "j.xml").iter("error")
    assert "does not exist" in str(error.get("message"))
    summary = (folder.path / "summary.md").read_text()
    assert summary.startswith("before\n### ERROR: ")
    assert "does not exist" in summary
    again = folder.ask("verify", "--recompute", "gate.json")
    assert again.exit_code == 2
    assert "of a gate that an error ended" in again.document["error"]["message"]


def test_a_wrong_limit_leaves_no_result_of_an_earlier_gate_either(folder: ProjectFolder) -> None:
    (folder.path / "gate.json").write_text('{\n "plan": "of an earlier gate, which passed"\n}')
    answer = folder.ask("verify", "small.tflite", "--against", "large.tflite", "--max-ratio", "nan")
    assert answer.exit_code == 2
    assert "--max-ratio" in json.loads((folder.path / "gate.json").read_text())["error"]["message"]


def test_a_model_is_never_taken_for_a_result_to_be_replaced(folder: ProjectFolder) -> None:
    before = (folder.path / "small.tflite").read_bytes()
    for option in ("--result", "--junit", "--summary", "--history"):
        answer = folder.ask("verify", "small.tflite", "--max-ms", "9", option, "small.tflite")
        assert answer.exit_code == 2
        assert "is a model that is measured" in answer.document["error"]["message"]
        assert (folder.path / "small.tflite").read_bytes() == before


def test_what_no_gate_has_written_stays_also_where_an_error_is_to_be_told(folder: ProjectFolder) -> None:
    (folder.path / "notes.xml").write_text("<notes/>")
    words = ("verify", "small.tflite", "--max-ms", "9", "--junit", "notes.xml")
    answer = folder.ask(*words)
    assert answer.exit_code == 2
    assert "no gate has written it" in answer.document["error"]["message"]
    assert (folder.path / "notes.xml").read_text() == "<notes/>"
    assert json.loads((folder.path / "gate.json").read_text())["error"]["exit_code"] == 2


@pytest.mark.needs("bubblewrap")
def test_the_blocks_of_a_gate_are_kept_where_its_phone_goes_away(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    words = ("verify", "small.tflite", "--against", "large.tflite", "--max-ratio", "0.9")
    there = ("--device", f"android:{phone.address}", "--set", "android.patience_minutes=0")
    with folder.started(*words, *there, "--summary", "s.md") as running:
        running.wait_for(lambda event: event["event"] == "progress" and event["done"] == 2)
        phone.kill_daemon()
        assert running.ends().exit_code == 5
    stored = json.loads((folder.path / "gate.json").read_text())
    assert stored["error"]["reference"] == "device-lost"
    assert (len(stored["blocks"]) >= 2, stored["device"]["virtual"]) == (True, True)
    assert "### ERROR" in (folder.path / "s.md").read_text()


# --- other kinds of gates ----------------------------------------------------------------------------


def test_a_limit_of_milliseconds_gates_a_model_that_nothing_can_be_compared_with(
    folder: ProjectFolder,
) -> None:
    """Two inputs, and no MobileNetV2 takes them."""
    shapes = [([1, 64, 64, 64], schema.TensorType.FLOAT32)] * 2
    sum_of_two = one_operator(schema.BuiltinOperator.ADD, shapes, shapes[0], schema.AddOptionsT())
    (folder.path / "two.tflite").write_bytes(sum_of_two)
    answer = folder.ask(
        "verify", "two.tflite", "--max-ms", "1000", "--junit", "j.xml", "--history", "h.jsonl"
    )
    assert answer.exit_code == 0, answer.document
    assert (answer.document["verdict"], answer.document["baseline"]) == ("pass", None)
    assert answer.document["outputs"]["inputs"] == 4
    look = answer.document["looks"][-1]
    assert (look["ratio"], look["candidate_ms_interval"][1] < 1000) == (None, True)
    assert folder.ask("verify", "--recompute", "gate.json").exit_code == 0


def test_a_self_test_says_what_a_gate_can_show_and_is_inconclusive_nowhere(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = folder.call("verify", "--self-test", "--max-blocks", "6", "--junit", "j.xml", "--summary", "s.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("::notice title=nasflow verify::SELF-TEST: One block's ratio varies by ")
    files = "".join((folder.path / name).read_text() for name in ("j.xml", "s.md"))
    assert "nconclusive" not in done.stdout + files
    assert "limit lies" not in done.stdout + files
    again = folder.ask("verify", "--recompute", "gate.json")
    assert (again.exit_code, again.document["kind"], again.document["verdict"]) == (0, "self-test", None)


def test_options_that_would_do_nothing_are_refused(folder: ProjectFolder) -> None:
    for words, said in (
        (("--recompute", "gate.json", "--max-ratio", "0.5", "--junit", "j.xml"), "--max-ratio, --junit"),
        (("--recompute", "gate.json", "--device", "local"), "--device"),
        (("--self-test", "--against", "small.tflite", "--inputs", "in"), "--against, --inputs"),
        (("--self-test", "--require-outputs", "--history", "h"), "--history, --require-outputs"),
    ):
        answer = folder.ask("verify", *words)
        assert answer.exit_code == 2
        assert f"{said} would do nothing" in answer.document["error"]["message"], words
