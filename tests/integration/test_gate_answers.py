"""What a gate says of models whose answers are wrong or cannot be seen, and of phones that go away."""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image
from support.command_line import Answer, ProjectFolder
from support.operator_models import one_operator
from support.small_classifiers import answers, small_classifier

from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from stages.conversion.flatbuffer import network_model
from stages.space.mobilenet_v2 import mobilenet_v2

FLOAT32 = schema.TensorType.FLOAT32
LIMIT = ("--max-ratio", "0.9")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of gates are kept in the account's cache; no adb server."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        yield


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    """A quick and a slow model, and one that has a number for nothing that is below 0."""
    for name, side, width in (("small", 32, 0.35), ("large", 64, 1.0)):
        model = network_model(mobilenet_v2(resolution=side, classes=10, width=width))
        (tmp_path / f"{name}.tflite").write_bytes(model)
    log = one_operator(schema.BuiltinOperator.LOG, [([1, 64], FLOAT32)], ([1, 64], FLOAT32))
    (tmp_path / "log.tflite").write_bytes(log)
    return ProjectFolder(tmp_path)


def on(phone: VirtualPhone, *settings: str) -> tuple[str, ...]:
    words = [word for setting in settings for word in ("--set", setting)]
    return ("--device", f"android:{phone.address}", *words)


def junit_error(path: Path) -> str:
    (error,) = ElementTree.parse(path).getroot().iter("error")
    return str(error.get("message"))


def nothing_was_measured(answer: Answer) -> bool:
    return not [event for event in answer.events if event["event"] == "progress"]


def test_a_model_that_answers_with_no_number_is_refused_and_given_inputs_may_help(
    folder: ProjectFolder,
) -> None:
    words = ("verify", "log.tflite", "--against", "log.tflite", "--max-ratio", "2", "--max-blocks", "10")
    answer = folder.ask(*words, "--junit", "j.xml")
    assert answer.exit_code == 6
    assert "log.tflite answers with NaN or infinity for 4 of 4 inputs" in answer.document["error"]["message"]
    assert "--inputs" in answer.document["error"]["hint"]
    assert "NaN or infinity" in junit_error(folder.path / "j.xml")
    assert nothing_was_measured(answer)

    (folder.path / "in").mkdir()
    np.save(folder.path / "in" / "a.npy", np.linspace(1, 2, 64, dtype=np.float32))
    given = folder.ask(*words, "--inputs", "in")
    assert given.exit_code in (0, 1, 3), given.document
    outputs = given.document["outputs"]
    assert (outputs["inputs"], outputs["given"]) == (1, True)
    assert outputs["largest_share"] <= outputs["allowed_share"]


def test_inputs_that_do_not_fit_the_model_are_refused_before_anything_is_measured(
    folder: ProjectFolder,
) -> None:
    (folder.path / "in").mkdir()
    np.save(folder.path / "in" / "a.npy", np.zeros((3, 3), np.float32))
    answer = folder.ask("verify", "small.tflite", "--against", "large.tflite", *LIMIT, "--inputs", "in")
    assert answer.exit_code == 2
    assert "holds float32 3x3; the model's input" in answer.document["error"]["message"]
    assert nothing_was_measured(answer)


def test_models_of_different_inputs_are_compared_and_everybody_is_told(folder: ProjectFolder) -> None:
    words = ("small.tflite", "--against", "large.tflite", *LIMIT, "--summary", "summary.md")
    answer = folder.ask("verify", *words, "--max-blocks", "10")
    said = (
        "the models do different work: small.tflite takes float32 1x32x32x3, large.tflite float32 1x64x64x3"
    )
    assert answer.exit_code == 0, answer.document
    assert any(said in text for text in answer.texts)
    assert "do different work" in (folder.path / "summary.md").read_text()
    assert answer.document["candidate"]["takes"] == "float32 1x32x32x3"


def test_a_file_that_cannot_be_written_is_noticed_before_anything_is_measured(folder: ProjectFolder) -> None:
    words = ("verify", "small.tflite", "--against", "large.tflite", *LIMIT)
    for option in ("--junit", "--summary", "--history", "--result"):
        answer = folder.ask(*words, option, "small.tflite/below-a-file.xml")
        assert answer.exit_code == 8, answer.document
        assert "below-a-file" in answer.document["error"]["message"]
        assert nothing_was_measured(answer)


def test_a_gate_may_ask_for_accuracy_alone_and_tells_it_everywhere(folder: ProjectFolder) -> None:
    """60 images of one colour, each in the folder of the class that the candidate answers."""
    models = {name: small_classifier(classes=3, seed=seed) for name, seed in (("good", 8), ("bad", 31))}
    colours = np.random.default_rng(1).integers(0, 256, (60, 1, 1, 3), np.uint8)
    images = colours.repeat(32, axis=1).repeat(32, axis=2)
    for number, label in enumerate(answers(models["good"], images).argmax(axis=1)):
        for part in ("test", "train") if number % 2 == 0 else ("test",):
            place = folder.path / "images" / part / f"class {label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(place / f"{number}.png")
    for name, model in models.items():
        (folder.path / f"{name}.tflite").write_bytes(model)
    (folder.path / "labels.txt").write_text("class 0\nclass 1\nclass 2\n")
    words = ("verify", "bad.tflite", "--against", "good.tflite", "--max-blocks", "6", "--junit", "j.xml")
    limit = ("--max-accuracy-drop", "5")
    (folder.path / "pipeline.yaml").write_text("data: {source: folder, path: images, copies: ignore}\n")
    unstated = folder.ask(*words, *limit, "--data", "images")
    assert unstated.exit_code == 2
    assert "does not say how it takes its pixels" in unstated.document["error"]["message"]
    assert nothing_was_measured(unstated)
    takes, with_images = ("--mean", "127.5", "--std", "127.5"), (*limit, "--data", "images")
    answer = folder.ask(*words, *limit, "--data", "images", *takes)
    assert answer.exit_code == 1, answer.document
    accuracy = answer.document["accuracy"]
    assert (accuracy["images"], accuracy["classes"], accuracy["verdict"]) == (60, 3, "fail")
    assert accuracy["both_correct"] + accuracy["only_baseline"] == 60
    assert len(answer.document["looks"]) == 1, "latency has no limit, and is shown"
    (failure,) = ElementTree.parse(folder.path / "j.xml").getroot().iter("failure")
    assert "beyond the limit of 5" in str(failure.get("message"))
    again = folder.ask("verify", "--recompute", "gate.json")
    assert (again.exit_code, again.document["accuracy"]) == (1, accuracy)

    for wrong in (takes, ("--mean", "1", *with_images), (*with_images, "--mean", "a", "--std", "1")):
        refused = folder.ask(*words, "--max-ratio", "1", *wrong)
        assert refused.exit_code == 2
        assert "--mean" in refused.document["error"]["message"]
    for wrong in (limit, ("--data", "images"), ("--max-accuracy-drop", "nan", "--data", "images")):
        refused = folder.ask(*words, *wrong)
        assert refused.exit_code == 2
        assert "--max-accuracy-drop" in refused.document["error"]["message"]
    nobody = folder.ask("verify", "bad.tflite", "--against", "mobilenet_v2", *with_images, *takes)
    assert nobody.exit_code == 2
    assert "does not say what its outputs stand for" in nobody.document["error"]["message"]


@pytest.mark.needs("bubblewrap")
def test_litert_s_tool_cannot_write_answers_and_who_requires_them_is_told_at_once(
    folder: ProjectFolder,
) -> None:
    words = ("verify", "small.tflite", "--against", "large.tflite", *LIMIT, "--max-blocks", "10")
    with running_phone(description=PhoneDescription(tool="litert")) as phone:
        required = folder.ask(*words, "--require-outputs", "--junit", "j.xml", *on(phone))
        assert required.exit_code == 2
        assert "outputs not compared on the device" in required.document["error"]["message"]
        assert "outputs not compared" in junit_error(folder.path / "j.xml")
        assert nothing_was_measured(required)
        assert "outputs not compared" in (folder.path / "gate.json").read_text()

        with folder.started(*words, *on(phone)) as running:
            running.wait_for(lambda event: str(event.get("text", "")).startswith("outputs not compared"))
            running.wait_for(lambda event: event["event"] == "progress")


@pytest.mark.needs("bubblewrap")
def test_a_gate_outlives_a_clock_that_jumps_and_a_phone_that_goes_away(folder: ProjectFolder) -> None:
    words = ("verify", "small.tflite", "--against", "large.tflite", *LIMIT, "--max-blocks", "6")
    with running_phone() as phone:
        there = on(phone, "android.patience_minutes=0")
        with folder.started(*words, *there, "--junit", "j.xml") as running:
            running.wait_for(lambda event: event["event"] == "progress")
            phone.faults.set(FaultPlan(clock_offset_s=-86_400))
            running.wait_for(lambda event: event["event"] == "progress" and event["done"] == 3)
            phone.kill_daemon()
            lost = running.ends()
        assert lost.exit_code == 5, lost.document
        assert "did not reconnect" in junit_error(folder.path / "j.xml")
        phone.start_daemon()
        phone.faults.clear()
        back = folder.ask(*words, *there)
    assert back.exit_code == 0, back.document
    assert any(text.startswith("going on after") for text in back.texts)
    assert len(back.document["blocks"]) >= 6
    assert back.document["outputs"]["inputs"] == back.document["baseline_outputs"]["inputs"] == 4
    assert all(0 <= block["seconds"] < 3600 for block in back.document["blocks"])
