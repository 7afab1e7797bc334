"""``nasflow bench`` and ``nasflow doctor`` on the virtual phone and on this computer."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import ProjectFolder

from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from stages.conversion.flatbuffer import network_model
from stages.space.mobilenet_v2 import mobilenet_v2

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualPhone]:
    with socket.socket() as nobody, running_phone() as phone:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield phone


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    """A folder with two models and no configuration: the second takes longer."""
    for name, width in (("small", 0.35), ("large", 1.0)):
        model = network_model(mobilenet_v2(resolution=96, classes=10, width=width))
        (tmp_path / f"{name}.tflite").write_bytes(model)
    return ProjectFolder(tmp_path)


def test_models_are_timed_on_a_phone_side_by_side(phone: VirtualPhone, folder: ProjectFolder) -> None:
    answer = folder.ask(
        "bench", "small.tflite", "large.tflite", "--device", f"android:{phone.address}", "--rounds", "2"
    )
    assert answer.exit_code == 0, answer.document
    small, large = answer.document["models"]
    assert (small["name"], small["rounds"], small["time_over_fastest"]) == ("small.tflite", 2, 1.0)
    assert large["median_ms"] > 2 * small["median_ms"]
    assert answer.document["device"]["virtual"] is True


def test_this_computer_needs_neither_phone_nor_configuration(folder: ProjectFolder) -> None:
    done = folder.call("bench", "small.tflite", "--rounds", "1")
    assert done.returncode == 0
    assert "small.tflite" in done.stdout
    assert "1 thread" in done.stdout


def test_a_file_that_is_no_model_and_a_core_that_cannot_be_chosen_are_refused(folder: ProjectFolder) -> None:
    (folder.path / "notes.tflite").write_text("not a model")
    assert folder.ask("bench", "notes.tflite").exit_code == 2
    missing = folder.ask("bench", "nothere.tflite")
    assert (missing.exit_code, missing.document["error"]["message"]) == (2, "nothere.tflite does not exist.")
    assert folder.ask("bench", ".").document["error"]["message"] == ". is a folder."
    for cores, said in (("f0", "as in 0xf0"), ("7", "as in 0x7"), ("bigg", "all, big, little, prime")):
        message = folder.ask("bench", "small.tflite", "--cpu", cores).document["error"]["message"]
        assert message.startswith(f"--cpu {cores}: ")
        assert said in message
    assert folder.ask("bench", "small.tflite", "small.tflite").exit_code == 2
    refused = folder.ask("bench", "small.tflite", "--cpu", "big")
    assert refused.exit_code == 2
    assert "runtime.cpu is big" in refused.document["error"]["message"]


@pytest.mark.parametrize("cores", ["auto", "big", "little", "prime", "all", "0xF0"])
def test_cores_are_chosen_by_name_or_mask(phone: VirtualPhone, folder: ProjectFolder, cores: str) -> None:
    words = ("bench", "small.tflite", "--device", f"android:{phone.address}", "--rounds", "1", "--cpu", cores)
    answer = folder.ask(*words)
    assert answer.exit_code == 0, answer.document
    assert answer.document["runtime"]["cpu"] == cores.lower()


def test_a_gpu_that_the_phones_tool_does_not_know_is_not_asked_for(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    on_it = ("--device", f"android:{phone.address}", "--delegate", "gpu")
    answer = folder.ask("bench", "small.tflite", *on_it)
    assert answer.exit_code == 2, "the recorded tool is a build without a GPU"
    assert "does not support --use_gpu" in answer.document["error"]["message"]


def test_a_tool_that_crashes_is_no_latency_and_its_words_are_told(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    phone.faults.set(FaultPlan(tool_signal=11))
    answer = folder.ask("bench", "small.tflite", "--device", f"android:{phone.address}")
    assert answer.exit_code == 5
    assert "SIGSEGV" in answer.document["error"]["message"]
    assert "small.tflite" in answer.document["error"]["message"]
    assert any("the tool's last output" in text for text in answer.texts)


def test_a_bench_that_is_stopped_leaves_nothing_and_promises_nothing(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    with folder.started("bench", "small.tflite", "--device", f"android:{phone.address}") as running:
        running.wait_for(lambda event: event["event"] == "progress")
        running.process.send_signal(signal.SIGINT)
        answer = running.ends()
    assert answer.exit_code == 130
    assert "starts from the beginning" in answer.document["error"]["hint"]
    assert not list(phone.storage("/data/local/tmp/nasflow").iterdir())


def checks(answer_document: dict[str, object]) -> dict[str, dict[str, str]]:
    found = answer_document["checks"]
    assert isinstance(found, list)
    return {check["name"]: check for check in found}


def test_the_doctor_goes_the_whole_way_to_a_phone(phone: VirtualPhone, folder: ProjectFolder) -> None:
    answer = folder.ask("doctor", "--device", f"android:{phone.address}")
    found = checks(answer.document)
    assert answer.exit_code == 0, found
    assert "just created" in found["adb key"]["found"]
    assert "Pixel 8 Pro" in found["phone"]["found"]
    assert "GB free" in found["phone space"]["found"]
    assert "simulated phone" in found["phone tool"]["found"]
    assert " ms " in found["phone trial"]["found"]
    assert "the empty model" in found["phone trial"]["found"]
    assert "the smallest block (" in found["phone trial"]["found"]
    assert "battery" in found["phone state"]["found"]


def test_the_doctor_says_what_to_do_about_a_phone_that_cannot_be_used(
    phone: VirtualPhone, folder: ProjectFolder
) -> None:
    phone.faults.set(FaultPlan(battery_percent=5))
    answer = folder.ask("doctor", "--device", f"android:{phone.address}")
    assert answer.exit_code == 4
    trial = checks(answer.document)["phone trial"]
    assert trial["state"] == "failed"
    assert "5 %" in trial["found"]
    assert trial["mend"]
