"""``nasflow ship`` of a network in several precisions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.sample_documents import sample_documents
from support.small_classifiers import small_classifier
from support.toy_pipeline import ToyPipeline

from nasflow.cli.app import main
from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from pipeline.artifact import Blob, sha256_hex
from stages.documents import ConvertedNetworks, LeftOut, Precision, Quantization, Verification

MODELS: dict[Precision, bytes] = {
    "float32": small_classifier(10),
    "float16": small_classifier(10, seed=1),
    "int8": small_classifier(10, input_type="uint8", seed=2),
}


TUNED = b"the weights that were fine-tuned for int8"


def finish(
    folder: Path,
    verified: Precision,
    precisions: tuple[Precision, ...] = ("float32", "float16", "int8"),
    *,
    tuned: bytes = b"",
    left_out: tuple[LeftOut, ...] = (),
) -> dict[str, Any]:
    """A finished run whose found network has files of :data:`MODELS`; the document that it told."""
    documents = sample_documents()
    convert, verify = documents["convert"], documents["verify"]
    assert isinstance(convert, ConvertedNetworks)
    assert isinstance(verify, Verification)
    blobs = {
        precision: Blob(sha256=sha256_hex(precision.encode()), suffix=".tflite", size_bytes=len(model))
        for precision, model in MODELS.items()
    }
    (found,) = (network for network in convert.networks if network.role == "found")
    files = tuple(
        found.file().model_copy(
            update={
                "precision": precision,
                "blob": blob,
                "quantization": made_by_tuning(tuned) if tuned and precision == "int8" else None,
            }
        )
        for precision, blob in blobs.items()
        if precision in precisions
    )
    changed = {
        "convert": convert.model_copy(
            update={
                "networks": tuple(
                    n.model_copy(update={"files": files, "left_out": left_out}) if n is found else n
                    for n in convert.networks
                )
            }
        ),
        "verify": verify.model_copy(
            update={
                "networks": tuple(
                    n.model_copy(update={"model": blobs[verified]}) if n.role == "found" else n
                    for n in verify.networks
                ),
                "runtime": verify.runtime.model_copy(update={"precision": verified}),
                "precisions": tuple(
                    file.model_copy(update={"model": blobs[file.precision]})
                    for file in verify.precisions
                    if file.precision != "float16" and file.precision in precisions
                ),
            }
        ),
    }
    (folder / "pipeline.yaml").write_text("training: {precision: '32'}\n", encoding="utf-8")
    contents = {blob.sha256: MODELS[precision] for precision, blob in blobs.items()}
    contents |= {sha256_hex(tuned): tuned} if tuned else {}
    toy = ToyPipeline(documents={**documents, **changed}, blobs=contents)
    outcome = run_pipeline(RunOptions(), open_project(Selection(folder / "pipeline.yaml"), toy))
    document: dict[str, Any] = dict(outcome.document)
    return document


def made_by_tuning(weights: bytes) -> Quantization:
    return Quantization(
        calibration_images=200,
        images=500,
        accuracy_percent=90.0,
        float32_accuracy_percent=91.0,
        fine_tuned=True,
        other_accuracy_percent=80.0,
        weights=Blob(sha256=sha256_hex(weights), suffix=".safetensors", size_bytes=len(weights)),
    )


@pytest.mark.parametrize("verified", ["float32", "int8"])
def test_the_results_hold_a_file_of_each_precision(verified: Precision, tmp_path: Path) -> None:
    document = finish(tmp_path, verified)
    latest = tmp_path / "artifacts" / "latest"
    names = {"network.tflite": verified}
    names |= {f"network_{precision}.tflite": precision for precision in MODELS if precision != verified}
    assert {path.name: path.read_bytes() for path in latest.glob("*.tflite")} == {
        name: MODELS[precision] for name, precision in names.items()
    }
    assert {name for name in document["files"] if name.endswith(".tflite")} == names.keys()
    sums = json.loads((latest / "manifest.json").read_bytes())["sha256"]
    assert {name: sums[name] for name in names} == {
        name: sha256_hex(MODELS[precision]) for name, precision in names.items()
    }


def test_a_lost_file_of_another_precision_is_written_again_and_one_no_longer_made_goes(
    tmp_path: Path,
) -> None:
    finish(tmp_path, "float32")
    latest = tmp_path / "artifacts" / "latest"
    lost = latest / "network_int8.tflite"
    lost.unlink()
    finish(tmp_path, "float32")
    assert lost.read_bytes() == MODELS["int8"]
    shutil.rmtree(tmp_path / "artifacts" / "records")  # a run of other settings makes other documents
    finish(tmp_path, "float32", ("float32", "int8"))
    assert {path.name for path in latest.glob("*.tflite")} == {"network.tflite", "network_int8.tflite"}


@pytest.mark.parametrize("verified", ["float32", "int8"])
def test_the_verified_file_is_the_model_and_the_others_are_named_after_their_precision(
    verified: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, verified)
    monkeypatch.chdir(tmp_path)
    assert main(["ship", "--version", "1.0.0", "--name", "flowers", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    package = Path(document["folder"])
    others = MODELS.keys() - {verified}
    models = {path.name for path in package.glob("*.tflite")}
    assert models == {"model.tflite", *(f"model_{precision}.tflite" for precision in others)}
    made_from = json.loads((package / "provenance.json").read_bytes())
    assert {f["precision"] for f in made_from["files"] if f["verified"]} == {verified}
    assert {f["precision"]: f["converted_sha256"] for f in made_from["files"]} == {
        precision: sha256_hex(model) for precision, model in MODELS.items()
    }
    archive = (package / "flowers-1.0.0.aar").read_bytes()
    assert (package / "model.tflite").read_bytes() in archive
    assert not [name for name in models - {"model.tflite"} if (package / name).read_bytes() in archive]


def test_the_card_shows_what_was_measured_of_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, "float32")
    monkeypatch.chdir(tmp_path)
    assert main(["ship", "--version", "1.0.0", "--name", "flowers", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    card = Path(document["files"]["MODEL_CARD.md"]).read_text(encoding="utf-8")
    (of_int8,) = (line for line in card.splitlines() if line.startswith("| int8 |"))
    assert "| uint8 |" in of_int8
    assert "91.60" in of_int8
    assert "Nothing was measured with `model_float16.tflite`: measure before you rely on it." in card
    assert "same class as the float32 file" in card


def test_provenance_names_the_weights_that_are_in_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those of a file that was fine-tuned are not those of the network as it was trained."""
    finish(tmp_path, "float32", tuned=TUNED)
    monkeypatch.chdir(tmp_path)
    assert main(["ship", "--version", "1.0.0", "--name", "flowers", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    made_from = json.loads(Path(document["files"]["provenance.json"]).read_bytes())
    assert {f["precision"]: f["weights_sha256"] for f in made_from["files"]} == {
        "float32": made_from["weights_sha256"],
        "float16": made_from["weights_sha256"],
        "int8": sha256_hex(TUNED),
    }
    assert made_from["weights_sha256"] != sha256_hex(TUNED)


def test_what_was_asked_for_and_not_made_is_said_with_the_reason(tmp_path: Path) -> None:
    finish(tmp_path, "float32", ("float32",), left_out=(LeftOut(precision="int8", reason="it falls apart"),))
    latest = tmp_path / "artifacts" / "latest"
    for name in ("summary.md", "report.html"):
        assert "No int8 file: it falls apart." in (latest / name).read_text(encoding="utf-8"), name
    (told,) = json.loads((latest / "result.json").read_bytes())["files_left_out"]
    assert told == {"precision": "int8", "reason": "it falls apart"}
