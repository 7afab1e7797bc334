"""``nasflow ship --ai-pack``: several finished runs as one pack for Google Play."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.finished_run import finish
from support.sample_documents import sample_documents
from support.sample_variants import of_few_photos
from support.small_classifiers import small_classifier

from android_bench.device import DeviceInfo
from nasflow.base.errors import UsageError
from nasflow.cli.app import main
from nasflow.commands.ship import ShipRequest, find_run
from nasflow.commands.ship_ai_pack import ship_ai_pack
from stages.packaging.tflite_file import read_facts

Ask = Callable[..., tuple[int, dict[str, Any]]]
CONFIG = "{http://schemas.android.com/apk/config}"
ASSETS = "flowers/src/main/assets"


def phone(soc: str, *, virtual: bool = False) -> DeviceInfo:
    return DeviceInfo(
        kind="android", model=f"Phone with {soc}", soc=soc, os_build="b", runtime="r", virtual=virtual
    )


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of this computer and two of phones, each with a network of its own."""
    folder = tmp_path_factory.mktemp("projects")
    finish(folder / "flowers", model=small_classifier(10, resolution=24))
    finish(folder / "snapdragon", model=small_classifier(10, resolution=32), device=phone("QTI SM8550"))
    finish(folder / "tensor", model=small_classifier(10, resolution=40), device=phone("Google Tensor G4"))
    return folder


@pytest.fixture
def ask(projects: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    def ask(*words: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.chdir(projects)
        code = main(["ship", "--ai-pack", *words, "--json"])
        document: dict[str, Any] = json.loads(capfd.readouterr().out)
        return code, document

    return ask


def test_each_chip_gets_its_own_network_and_all_others_the_first_runs(ask: Ask, projects: Path) -> None:
    code, document = ask("--version", "1.0.0", "flowers", "snapdragon", "tensor")
    assert (code, document["written"]) == (0, True)
    folder = projects / "flowers" / "artifacts" / "shipped" / "flowers-1.0.0-ai-pack"
    assert Path(document["folder"]) == folder
    sizes = {
        name: read_facts((folder / ASSETS / f"model#group_{name}" / "model.tflite").read_bytes(), name="m")
        .input.shape[1]
        for name in ("Qualcomm_SM8550", "Google_Tensor_G4", "other")
    }  # fmt: skip
    assert sizes == {"Qualcomm_SM8550": 32, "Google_Tensor_G4": 40, "other": 24}
    assert [group["name"] for group in document["groups"]] == ["Qualcomm_SM8550", "Google_Tensor_G4", "other"]
    root = ElementTree.parse(folder / "device_targeting_configuration.xml").getroot()
    assert [group.attrib["name"] for group in root] == ["Qualcomm_SM8550", "Google_Tensor_G4"]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == document["files"].keys()
    for group in sizes:
        assert f"{group}/MODEL_CARD.md" in files
        assert f"{group}/provenance.json" in files
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files - {"SHA256SUMS"}
    }
    readme = (folder / "README.md").read_text()
    assert 'include(":flowers")' in readme
    assert "all others" in readme
    code, again = ask("--version", "1.0.0", "flowers", "snapdragon", "tensor")
    assert (code, again["written"]) == (0, False)
    code, other = ask("--version", "1.0.0", "flowers", "tensor")
    assert (code, other["error"]["reference"]) == (2, "usage")
    assert "shipped before with other content" in other["error"]["message"]


def test_a_first_run_of_a_phone_is_a_group_and_the_default(projects: Path) -> None:
    runs = [find_run(projects / name) for name in ("snapdragon", "tensor")]
    outcome = ship_ai_pack(runs, ShipRequest("2.0.0", "2-nets"))
    folder = Path(outcome.document["folder"])
    assets = folder / "models_2_nets" / "src" / "main" / "assets"
    own, other = (assets / f"model#group_{name}" / "model.tflite" for name in ("Qualcomm_SM8550", "other"))
    assert own.read_bytes() == other.read_bytes()
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "needs several runs by name, and 0 were named"),
        (("flowers",), "and 1 was named"),
        (("flowers", "tensor", "--config", "flowers/pipeline.yaml"), "needs several runs by name"),
        (("flowers", "tensor", "tensor"), "there are two networks for the device group Google_Tensor_G4"),
        (("tensor", "flowers"), "cannot be meant for a group of phones"),
        (("flowers", "nothing"), "nothing is no finished run"),
    ],
)
def test_runs_that_make_no_pack_are_refused(words: tuple[str, ...], said: str, ask: Ask) -> None:
    code, document = ask("--version", "3.0.0", *words)
    assert code == 2
    assert said in document["error"]["message"]


def test_other_classes_and_simulated_phones_are_refused(projects: Path, tmp_path: Path) -> None:
    first = find_run(projects / "flowers")
    simulated = finish(tmp_path / "simulated", device=phone("QTI SM8650", virtual=True))
    with pytest.raises(UsageError, match="results are of a simulated phone"):
        ship_ai_pack([first, find_run(simulated)], ShipRequest("4.0.0"))
    photos = finish(
        tmp_path / "photos",
        documents=of_few_photos(sample_documents()),
        model=small_classifier(6),
        device=phone("QTI SM8650"),
    )
    with pytest.raises(UsageError, match=r"the networks have other classes: 10 from .*; 6 from ") as caught:
        ship_ai_pack([first, find_run(photos)], ShipRequest("4.0.0"))
    assert "labels" in caught.value.hint
