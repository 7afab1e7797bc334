"""From a folder of pictures to an app: on the simulated phone, whose result is not shipped, and here."""

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import ProjectFolder
from support.mediapipe_classifier import classify
from support.small_classifiers import answers

from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone

pytestmark = pytest.mark.needs("bubblewrap")

CLASSES, EACH, SIDE = ("blue", "green", "red"), 12, 32
SPACE = """\
# Two layers of three candidates: nine networks, nine distinct blocks. The last candidate takes many times
# as long as the others, so that a busy computer does not turn the order of the networks round.
name: smallest
resolution: 32
classes: 10
stem: {width: 16, kernel: 3, stride: 2}
stages:
  - {width: 16, layers: 1, stride: 2}
  - {width: 32, layers: 1, stride: 2}
head_width: 32
candidates:
  - {kernel: 3, expansion: 2}
  - {kind: fused, kernel: 3, expansion: 2}
  - {kernel: 7, expansion: 12}
"""
SMALL = (
    "space.name=smallest.yaml",
    "space.resolution=32",
    "training.precision='32'",
    "training.epochs=1",
    "training.batch_size=8",
    "training.start=fresh",
    "search.warmup_epochs=1",
    "search.epochs=1",
    "search.batch_size=8",
    "measurement={rounds: 3, extra_rounds: 0, interval_percent: 80, warmup_ms: 1, min_ms: 2}",
    "profile.anchor_width=0.35",
    "latency={calibration_networks: 4, held_out_networks: 4}",
    "target={ratio: 2}",
    "precheck={warmup_ms: 3, min_ms: 10, rounds: 3, max_ratio: 5}",
    "prune={candidates: 1, random_networks: 0, recalibration_batches: 2, rounds: 3, extra_rounds: 0}",
    "baseline={widths: [0.35], published_widths: []}",
    "convert={images: 8, precisions: [float32]}",
    "verify={rounds: 3, max_rounds: 3, precision_percent: 50, warmup_ms: 1, min_ms: 5}",
)


@pytest.fixture
def phone() -> Iterator[VirtualPhone]:
    """Asleep at first; LiteRT's own tool, which counts whole microseconds and whose --help lists no flags."""
    with running_phone(description=PhoneDescription(tool="litert"), plan=FaultPlan(asleep=True)) as phone:
        yield phone


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(EACH):
            random = np.random.default_rng(100 * label + number)
            cells = random.integers(0, 120, (5, 6, 3), np.uint8)
            cells[..., 2 - label] += 100
            image = Image.fromarray(cells).resize((48, 40), Image.Resampling.BICUBIC)
            image.save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "project").mkdir()
    return ProjectFolder(tmp_path / "project")


def test_a_folder_of_pictures_becomes_an_app_s_model_but_not_by_a_simulated_phone(
    project: ProjectFolder, phone: VirtualPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        begun = project.ask("init", "--data", "../photos")
        assert begun.exit_code == 0, begun.document
        (project.path / "smallest.yaml").write_text(SPACE, encoding="utf-8")
        small = [word for setting in SMALL for word in ("--set", setting)]
        there = ("--device", f"android:{phone.address}")

        run = project.ask("run", *there, *small)
        assert run.exit_code == 0, run.document
        result = json.loads((project.latest / "result.json").read_bytes())
        assert (result["device"]["kind"], result["device"]["virtual"]) == ("android", True)
        assert "litert" in result["device"]["runtime"]

        words = ("verify", "artifacts/latest", "--against", "mobilenet_v2", "--max-ratio", "1.5")
        gate = project.ask(*words, "--max-blocks", "6", "--junit", "junit.xml", *there)
        assert gate.exit_code in (0, 1, 3), gate.document
        (case,) = ElementTree.parse(project.path / "junit.xml").iter("testcase")
        assert "A simulated phone" in str(case.findtext("system-out"))
        assert "Outputs not compared on the device" in str(case.findtext("system-out"))

    refused = project.ask("ship", "--version", "1.0.0")
    assert refused.exit_code != 0
    assert "simulated" in refused.document["error"]["message"]

    here = project.ask("run", "--device", "local", *small)
    assert here.exit_code == 0, here.document
    shipped = project.ask("ship", "--version", "1.0.0")
    assert shipped.exit_code == 0, shipped.document
    package = Path(shipped.document["folder"])
    (model,) = package.glob("*.tflite")
    pictures = [Image.open(tmp_path / "photos" / name / "0.png") for name in CLASSES]
    images = np.stack([np.asarray(picture.resize((SIDE, SIDE))) for picture in pictures])
    labels = (package / "labels.txt").read_text(encoding="utf-8").splitlines()
    (said,) = classify(tmp_path, images, [model])
    expected = [labels[index] for index in answers(model.read_bytes(), images).argmax(axis=1)]
    assert [ranked[0][0] for ranked in said] == expected
