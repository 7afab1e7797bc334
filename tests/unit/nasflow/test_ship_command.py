"""``nasflow ship`` through the real command line and store, over a run whose stages do no work."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
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
from nasflow.commands.ship import find_run
from stages.documents import ImagesReport, Verification

Ask = Callable[..., tuple[int, dict[str, Any]]]
PHONE = DeviceInfo(kind="android", model="P", soc="s", os_build="b", runtime="r", virtual=True)


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run; not to be changed."""
    return finish(tmp_path_factory.mktemp("finished") / "flowers")


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of it, with which a test may do as it likes."""
    return shutil.copytree(finished_once, tmp_path / "flowers")


@pytest.fixture
def ask(finished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Ask ``nasflow ship`` in a finished project, with ``--json``."""

    def ask(*words: str, folder: Path = finished) -> tuple[int, dict[str, Any]]:
        monkeypatch.chdir(folder)
        code = main(["ship", *words, "--json"])
        document: dict[str, Any] = json.loads(capfd.readouterr().out)
        return code, document

    return ask


def shipped(folder: Path) -> dict[str, bytes]:
    top = folder / "artifacts" / "shipped"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def card(folder: Path, name: str = "flowers-1.0.0") -> str:
    return (folder / "artifacts" / "shipped" / name / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_finished_run_becomes_a_package(ask: Ask, finished: Path) -> None:
    code, document = ask("--version", "1.0.0")
    assert (code, document["written"], document["warnings"]) == (0, True, [])
    assert document["dependency"] == "nasflow:flowers:1.0.0"
    files = shipped(finished)
    own = {name.partition("/")[2] for name in files if name.startswith("flowers-1.0.0/")}
    assert own == {
        "MODEL_CARD.md", "README.md", "SHA256SUMS", "flowers-1.0.0.aar", "labels.txt", "model.tflite",
        "provenance.json", "result.json",
    }  # fmt: skip
    assert document["files"].keys() == own
    sums = dict(
        reversed(line.split("  ")) for line in files["flowers-1.0.0/SHA256SUMS"].decode().splitlines()
    )
    assert sums == {
        name: hashlib.sha256(files[f"flowers-1.0.0/{name}"]).hexdigest() for name in own - {"SHA256SUMS"}
    }
    assert document["sha256"] == sums
    archive = files["maven/nasflow/flowers/1.0.0/flowers-1.0.0.aar"]
    assert archive == files["flowers-1.0.0/flowers-1.0.0.aar"]
    assert files["flowers-1.0.0/model.tflite"] in archive


def test_the_same_again_writes_nothing(ask: Ask, finished: Path) -> None:
    ask("--version", "1.0.0")
    before = {path: path.stat().st_mtime_ns for path in (finished / "artifacts").rglob("*")}
    code, document = ask("--version", "1.0.0")
    assert (code, document["written"]) == (0, False)
    after = {path: path.stat().st_mtime_ns for path in (finished / "artifacts").rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} <= {
        finished / "artifacts", *(finished / "artifacts").glob("lock*")
    }  # fmt: skip


def test_the_same_version_of_other_content_is_refused(ask: Ask, finished: Path) -> None:
    ask("--version", "1.0.0")
    before = shipped(finished)
    code, document = ask("--version", "1.0.0", "--author", "Ada")
    assert code == document["error"]["exit_code"] == 2
    assert "was shipped before with other content" in document["error"]["message"]
    assert shipped(finished) == before
    assert ask("--version", "1.0.1", "--author", "Ada")[0] == 0


def test_two_computers_build_the_same_bytes(ask: Ask, finished: Path, tmp_path: Path) -> None:
    ask("--version", "1.0.0")
    again = shutil.copytree(finished, tmp_path / "elsewhere" / "flowers")
    shutil.rmtree(again / "artifacts" / "shipped")
    assert ask("--version", "1.0.0", folder=again)[0] == 0
    assert shipped(again) == shipped(finished)


def test_the_card_holds_the_runs_figures(ask: Ask, finished: Path) -> None:
    ask("--version", "1.0.0", "--author", "Ada | Co", "--licence", "CC-BY-4.0")
    text = card(finished)
    result = json.loads((finished / "artifacts" / "latest" / "result.json").read_bytes())
    assert f"**{result['network']['accuracy_percent']:.2f} %**" in text
    assert "No gate was set for this run" in text
    assert "None: its weights began as random numbers." in text
    assert "Sample Computer, Sample CPU @ 2.40GHz" in text
    assert r"| Author | Ada \| Co |" in text
    for row in result["verification"]["classes"]:
        assert f"| {row['name']} | {row['images']:,} | {row['found']['accuracy_percent']:.1f} |" in text
    for part in result["search"]["cost"]["parts"]:
        assert f"| {part['device_seconds']:.0f} |" in text


def test_provenance_leads_back_to_the_store(ask: Ask, finished: Path) -> None:
    ask("--version", "1.0.0")
    made_from = json.loads(shipped(finished)["flowers-1.0.0/provenance.json"])
    (model,) = made_from["files"]
    assert model["verified"]
    objects = finished / "artifacts" / "objects"
    for digest in (model["converted_sha256"], made_from["weights_sha256"]):
        (path,) = objects.glob(f"*/{digest}.*")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    records = finished / "artifacts" / "records"
    for name, stage in made_from["stages"].items():
        assert (records / name / f"{stage['fingerprint']}.json").is_file()
    assert made_from["seed"] == 5
    assert made_from["device"]["device_model"] == "Sample Computer"


@pytest.mark.parametrize(
    ("verdict", "code", "reference"), [("fail", 1, "gate-failed"), ("inconclusive", 3, "inconclusive")]
)
def test_a_gate_that_was_not_passed_is_refused_unless_it_is_asked_for(
    verdict: str, code: int, reference: str, ask: Ask, tmp_path: Path
) -> None:
    folder = finish(tmp_path / "gated" / "flowers", verdict=verdict, max_ratio=0.4)
    seen, document = ask("--version", "1.0.0", folder=folder)
    assert (seen, document["error"]["reference"]) == (code, reference)
    assert not (folder / "artifacts" / "shipped").exists()
    seen, document = ask("--version", "1.0.0", "--allow-unverified", folder=folder)
    assert seen == 0
    said = (
        f"The gate verify.max_ratio 0.4 ended with '{verdict}'; the package was made with --allow-unverified."
    )
    assert document["warnings"] == [said]
    assert f"**Not verified.** {said}" in card(folder)
    assert json.loads(shipped(folder)["flowers-1.0.0/provenance.json"])["allowed_unverified"]


def test_a_passed_gate_needs_no_permission(ask: Ask, tmp_path: Path) -> None:
    folder = finish(tmp_path / "gated" / "flowers", verdict="pass", max_ratio=0.9)
    assert ask("--version", "1.0.0", folder=folder)[0] == 0
    assert "Pass. The latency ratio is" in card(folder)
    assert "Not verified" not in card(folder)


def test_a_simulated_phones_results_are_never_shipped(ask: Ask, tmp_path: Path) -> None:
    folder = finish(tmp_path / "virtual" / "flowers", documents=sample_documents(device=PHONE))
    for words in ([], ["--allow-unverified"]):
        code, document = ask("--version", "1.0.0", *words, folder=folder)
        assert code == 2
        assert "of a simulated phone" in document["error"]["message"]
    assert not (folder / "artifacts" / "shipped").exists()


@pytest.mark.parametrize(("kind", "runtime"), [("local", "onnxruntime 1.27.0"), ("cuda", "torch 2.13.0")])
def test_latencies_of_another_engine_are_not_shipped_as_the_files(
    kind: str, runtime: str, ask: Ask, tmp_path: Path
) -> None:
    device = DeviceInfo(kind=kind, model="M", soc="s", os_build="b", runtime=runtime)  # type: ignore[arg-type]
    folder = finish(tmp_path / "other" / "flowers", device=device)
    code, document = ask("--version", "1.0.0", "--allow-unverified", folder=folder)
    assert code == 2
    assert runtime in document["error"]["message"]
    assert not (folder / "artifacts" / "shipped").exists()


def test_a_gate_that_a_disturbed_device_left_open_is_measured_again(ask: Ask, tmp_path: Path) -> None:
    folder = finish(tmp_path / "gated" / "flowers", verdict="inconclusive", max_ratio=0.9, disturbed=True)
    code, document = ask("--version", "1.0.0", folder=folder)
    assert code == 3
    assert "In too many of them the device was slowed down" in document["error"]["message"]
    assert "nasflow run --force verify" in document["error"]["hint"]


def test_a_model_file_is_no_finished_run(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(UsageError, match="is no finished run"):
        find_run(tmp_path / "model.tflite")


def test_own_images_are_named_nowhere(ask: Ask, tmp_path: Path) -> None:
    documents = of_few_photos(sample_documents())
    folder = finish(tmp_path / "animals", documents=documents, model=small_classifier(6))
    assert b"IMG_0042.jpg" in (folder / "artifacts" / "latest" / "result.json").read_bytes()
    assert ask("--version", "1.0.0", folder=folder)[0] == 0
    files = shipped(folder)
    assert files["animals-1.0.0/labels.txt"].decode().splitlines()[5] == "猫頭鷹"
    assert not [name for name, content in files.items() if b"IMG_0042" in content or b"scan.png" in content]
    assert "2 files were left out, because they could not be read." in card(folder, "animals-1.0.0")


def test_pretrained_weights_bring_their_notice(ask: Ask, tmp_path: Path) -> None:
    documents = of_few_photos(sample_documents())
    folder = finish(tmp_path / "animals", documents=documents, model=small_classifier(6))
    assert ask("--version", "1.0.0", folder=folder)[0] == 0
    files = shipped(folder)
    notice = files["animals-1.0.0/NOTICE"].decode()
    assert "EfficientNet-Lite0, ImageNet-1k" in notice
    assert "http://www.apache.org/licenses/LICENSE-2.0" in notice
    assert notice.encode() in files["maven/nasflow/animals/1.0.0/animals-1.0.0.aar"]
    assert "licence Apache-2.0" in card(folder, "animals-1.0.0")


@pytest.mark.parametrize("option", ["--author", "--licence"])
@pytest.mark.parametrize("text", ["Ada\udcff", "Ada\x0b", "Ada\nLovelace", "x" * 1001])
def test_an_author_or_a_licence_that_files_cannot_hold_is_refused(
    option: str, text: str, ask: Ask, finished: Path
) -> None:
    """A lone surrogate is what an argument that is no UTF-8 becomes."""
    code, document = ask("--version", "1.0.0", option, text)
    assert (code, document["error"]["reference"]) == (2, "usage")
    assert option in document["error"]["message"]
    assert not (finished / "artifacts" / "shipped").exists()


def test_an_author_and_a_licence_are_written_into_files(ask: Ask, finished: Path) -> None:
    assert ask("--version", "1.0.0", "--author", "Ada Łovelace & Co", "--licence", "MIT <1>")[0] == 0
    files = shipped(finished)
    pom = ElementTree.fromstring(files["maven/nasflow/flowers/1.0.0/flowers-1.0.0.pom"])
    assert "MIT <1>" in [element.text for element in pom.iter()]
    assert "Ada Łovelace & Co".encode() in files["flowers-1.0.0/model.tflite"]


def test_foreign_text_cannot_change_the_cards_form(ask: Ask, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "a|b", "[x](http://e.org)", "**c**", "`d`", "# e"]
    documents = of_few_photos(sample_documents())
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    assert isinstance(verify.images, ImagesReport)
    classes = [
        each.model_copy(update={"name": name})
        for each, name in zip(verify.images.classes, names, strict=True)
    ]
    images = verify.images.model_copy(update={"classes": tuple(classes)})
    changed = {**documents, "verify": verify.model_copy(update={"images": images})}
    folder = finish(tmp_path / "animals", documents=changed, model=small_classifier(6))
    assert ask("--version", "1.0.0", folder=folder)[0] == 0
    assert shipped(folder)["animals-1.0.0/labels.txt"].decode().splitlines() == names
    text = card(folder, "animals-1.0.0")
    assert r"| \<script\>alert(1)\</script\> |" in text
    assert r"| a\|b |" in text
    assert "[x](" not in text


@pytest.mark.parametrize(
    ("names", "outputs", "words"),
    [
        (["a", "b", "c", "d", "e", "e"], 6, "several classes have the same name: e"),
        (["a", "b", "", "d", "e", "f"], 6, "name of class 3 is empty"),
        (["a", "b", "c\nd", "d", "e", "f"], 6, "name of class 3, 'c\\nd'"),
        (["a", "b", "c", "d", "\x1b[31me", "f"], 6, "name of class 5, '\\x1b[31me'"),
        (["a", "b", "c", "d", "e", "f"], 5, "there are 6 class names, but the model has 5 outputs"),
        (["a", "b", "c", "d", "e", "f"], 7, "there are 6 class names, but the model has 7 outputs"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    names: Sequence[str], outputs: int, words: str, ask: Ask, tmp_path: Path
) -> None:
    documents = of_few_photos(sample_documents())
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    assert isinstance(verify.images, ImagesReport)
    classes = tuple(
        each.model_copy(update={"name": name})
        for each, name in zip(verify.images.classes, names, strict=True)
    )
    images = verify.images.model_copy(update={"classes": classes})
    changed = {**documents, "verify": verify.model_copy(update={"images": images})}
    folder = finish(tmp_path / "animals", documents=changed, model=small_classifier(outputs))
    code, document = ask("--version", "1.0.0", folder=folder)
    assert code == 2
    assert words in document["error"]["message"]
    assert not (folder / "artifacts" / "shipped").exists()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_weight_that_is_no_number_is_refused(value: float, ask: Ask, tmp_path: Path) -> None:
    folder = finish(tmp_path / "flowers2", model=small_classifier(10, spoiled=value))
    code, document = ask("--version", "1.0.0", folder=folder)
    assert code == 6
    assert "'conv.weight' (CONV_2D conv) is NaN" in document["error"]["message"]


def test_a_model_of_one_channel_is_shipped_with_a_warning(ask: Ask, tmp_path: Path) -> None:
    folder = finish(tmp_path / "grey", model=small_classifier(10, channels=1))
    code, document = ask("--version", "1.0.0", folder=folder)
    assert code == 0
    assert document["warnings"] == [
        "MediaPipe's ImageClassifier and ML Kit will not take it: its input has 1 channel, and not 3."
    ]
    readme = shipped(folder)["grey-1.0.0/README.md"].decode()
    assert "ImageClassifierOptions" not in readme
    assert "FloatArray(pixels.size * 1)" in readme


def test_the_readme_writes_what_the_model_takes(ask: Ask, tmp_path: Path) -> None:
    folder = finish(tmp_path / "bytes", model=small_classifier(10, input_type="uint8", output="logits"))
    assert ask("--version", "1.0.0", folder=folder)[0] == 0
    readme = shipped(folder)["bytes-1.0.0/README.md"].decode()
    assert 'implementation("nasflow:bytes:1.0.0")' in readme
    assert "ByteArray(pixels.size * 3)" in readme
    assert "writeInt8(values)" in readme
    assert "outputs[0].readFloat()" in readme
    assert 'setModelAssetPath("bytes/model.tflite")' in readme
    assert "The network's output is logits." in readme


@pytest.mark.parametrize(
    "words",
    [["--version", "../1"], ["--version", "1 0"], ["--version", "1.0", "--name", "../../etc"],
     ["--version", "1.0", "--name", "é"], ["--version", "1.0-SNAPSHOT"], []],
)  # fmt: skip
def test_names_and_versions_that_are_none_are_refused(words: list[str], ask: Ask, finished: Path) -> None:
    code, document = ask(*words)
    assert (code, document["error"]["exit_code"]) == (2, 2)
    assert not (finished / "artifacts" / "shipped").exists()


def test_a_project_folder_whose_name_is_none_is_told_what_to_write(ask: Ask, finished: Path) -> None:
    folder = finished.rename(finished.with_name("Meine Blümchen"))
    code, document = ask("--version", "1.0.0", folder=folder)
    assert (code, document["error"]["hint"]) == (2, "Choose another one: --name meine-blumchen")
    assert ask("--version", "1.0.0", "--name", "meine-blumchen", folder=folder)[0] == 0


def test_a_run_is_named_by_its_folder_its_configuration_or_its_results(
    ask: Ask, finished: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (finished, finished / "pipeline.yaml", finished / "artifacts" / "latest"):
        code, document = ask("--version", "1.0.0", str(path), folder=elsewhere)
        assert (code, document.get("name")) == (0, "flowers"), document
    code, document = ask("--version", "1.0.0", "--config", str(finished / "pipeline.yaml"), folder=elsewhere)
    assert (code, document["written"]) == (0, False)


@pytest.mark.parametrize("words", [["nowhere"], ["a", "b"], ["a", "--config", "b"]])
def test_other_runs_are_refused(words: list[str], ask: Ask) -> None:
    assert ask("--version", "1.0.0", *words)[0] == 2


def test_a_project_without_a_finished_run_is_told_so(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "pipeline.yaml").write_text("seed: 1\n", encoding="utf-8")
    code, document = ask("--version", "1.0.0", folder=tmp_path / "new")
    assert (code, document["error"]["hint"]) == (2, "Finish one first: nasflow run.")


def test_results_that_are_no_longer_in_the_store_are_told(ask: Ask, finished: Path) -> None:
    shutil.rmtree(finished / "artifacts" / "records" / "verify")
    code, document = ask("--version", "1.0.0")
    assert code == 2
    assert "no longer holds what stage verify made" in document["error"]["message"]


def test_changed_results_are_told(ask: Ask, finished: Path) -> None:
    path = finished / "artifacts" / "latest" / "result.json"
    path.write_bytes(path.read_bytes().replace(b'"ungated"', b'"pass"'))
    code, document = ask("--version", "1.0.0")
    assert (code, document["error"]["hint"]) == (7, "Write it again: nasflow report.")


def test_a_manifest_of_an_earlier_version_is_written_anew_by_a_run(ask: Ask, finished: Path) -> None:
    path = finished / "artifacts" / "latest" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["documents"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert ask("--version", "1.0.0")[0] == 2
    finish(finished)
    assert ask("--version", "1.0.0")[0] == 0


def test_a_full_disk_leaves_nothing_behind(ask: Ask, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("stages.packaging.writing._write", full)
        code, document = ask("--version", "1.0.0")
    assert code == 8
    assert "no space is left on the disk" in document["error"]["message"]
    assert [path for path in (finished / "artifacts" / "shipped").rglob("*") if path.is_file()] == []
    code, document = ask("--version", "1.0.0")
    assert (code, document["written"]) == (0, True)
