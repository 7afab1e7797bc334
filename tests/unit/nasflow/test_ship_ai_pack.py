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
        told = json.loads((folder / group / "provenance.json").read_bytes())
        assert {file["name"] for file in told["files"]} == {"model.tflite"}, "the pack holds no other"
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


def test_phones_may_be_named_by_chip_model_and_memory(ask: Ask, projects: Path) -> None:
    """Several --group of one run are one group: any of them."""
    words = ("--group", "flowers=ram:-4", "--group", "tensor=soc:Google Tensor G4+ram:8-")
    more = ("--group", "tensor=soc:Google Tensor G5", "--group", "snapdragon=device:samsung/dm3q")
    code, document = ask("--version", "5.0.0", "flowers", "tensor", "snapdragon", *words, *more)
    assert code == 0, document
    folder = Path(document["folder"])
    root = ElementTree.parse(folder / "device_targeting_configuration.xml").getroot()
    assert [(group.attrib["name"], [(s.attrib, [e.attrib for e in s]) for s in group]) for group in root] == [
        ("ram_below_4000000000", [({"ram-max-bytes": "4000000000"}, [])]),
        (
            "Google_Tensor_G4_ram_8000000000",
            [
                ({"ram-min-bytes": "8000000000"}, [{"manufacturer": "Google", "model": "Tensor G4"}]),
                ({}, [{"manufacturer": "Google", "model": "Tensor G5"}]),
            ],
        ),
        ("samsung_dm3q", [({}, [{"brand": "samsung", "device": "dm3q"}])]),
    ]
    readme = (folder / "README.md").read_text()
    assert "| below 4 GB |" in readme
    assert "with Google Tensor G4, 8 GB and more or with Google Tensor G5" in readme
    assert (folder / "ram_below_4000000000" / "MODEL_CARD.md").is_file()
    assert not (folder / "other").exists(), "the same network's card stands in its group"


@pytest.mark.parametrize(
    "words",
    ["tensor", "tensor=", "rose=ram:8-", "tensor=ram:-", "tensor=ram:8", "tensor=ram:x-", "tensor=soc:Google",
     "tensor=device:husky", "tensor=brand:", "tensor=ram:8-+ram:-9", "tensor=ram:9-8", "tensor=colour:red"],
)  # fmt: skip
def test_words_that_name_no_phones_are_refused(words: str, ask: Ask) -> None:
    code, document = ask("--version", "6.0.0", "flowers", "tensor", "--group", words)
    assert (code, document["error"]["reference"]) == (2, "usage")
    assert "group" in document["error"]["message"]


def test_groups_are_for_packs_alone(
    projects: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(projects)
    assert main(["ship", "--version", "1.0.0", "flowers", "--group", "flowers=ram:8-", "--json"]) == 2
    assert "--group is for --ai-pack" in json.loads(capfd.readouterr().out)["error"]["message"]


def test_the_notice_of_published_weights_lies_beside_the_network_in_the_app(tmp_path: Path) -> None:
    documents = of_few_photos(sample_documents())
    runs = []
    for name, soc in (("a", "QTI SM8650"), ("b", "QTI SM8550")):
        folder = finish(tmp_path / name, documents=documents, model=small_classifier(6), device=phone(soc))
        runs.append(find_run(folder))
    outcome = ship_ai_pack(runs, ShipRequest("1.0.0"))
    folder = Path(outcome.document["folder"])
    for group in ("Qualcomm_SM8650", "Qualcomm_SM8550", "other"):
        text = (folder / f"a/src/main/assets/model#group_{group}/NOTICE.txt").read_text()
        assert "EfficientNet-Lite0, ImageNet-1k" in text
    assert "`model/NOTICE.txt`" in (folder / "README.md").read_text()


def test_a_pack_of_a_model_of_one_channel_is_shipped_with_a_warning(projects: Path, tmp_path: Path) -> None:
    grey = finish(tmp_path / "grey", model=small_classifier(10, channels=1), device=phone("QTI SM8650"))
    outcome = ship_ai_pack([find_run(projects / "flowers"), find_run(grey)], ShipRequest("7.0.0"))
    assert outcome.document["warnings"] == [
        "MediaPipe's ImageClassifier and ML Kit will not take it: its input has 1 channel, and not 3."
    ]
    readme = (projects / "flowers/artifacts/shipped/flowers-7.0.0-ai-pack/README.md").read_text()
    assert "NOTICE" not in readme


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
