"""The whole chain at a tiny size: real images, real LiteRT, real conversion, the real command line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.conftest import Finished
from support.command_line import Answer, ProjectFolder

from android_bench.local.device import LocalDevice
from nasflow.cli.request import STAGE_NAMES
from nasflow.publish import FILES, MANIFEST, MODEL, REPORT, RESULT, other_model
from stages.conversion.inspection import inspect_model
from stages.data.config import DataConfig, open_dataset
from stages.reporting.result import ResultDocument

PYTHON_PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
HEAVY = {"torch", "tensorflow", "onnx", "numpy", "scipy", "matplotlib", "rich", "ai_edge_litert"}

# What programs may rely on; a field that is missing here may change.
PROMISED: Mapping[str, Any] = {
    "schema_version": int,
    "device": {"kind": str, "model": str, "virtual": bool},
    "latency_model": {
        "blocks": int,
        "seconds": float,
        "held_out": {
            "networks": int,
            "share_within_5_percent": float,
            "share_within_10_percent": float,
            "mape_percent": float,
            "spearman": float,
        },
    },
    "search": {"target_ms": float, "predicted_ms": float, "seconds": float},
    "network": {
        "accuracy_percent": float,
        "accuracy_interval_95": list,
        "median_ms": float,
        "parameters": int,
        "macs": int,
    },
    "conversion": list,
    "verification": {
        "networks": [{"name": str, "role": str, "accuracy_percent": float, "median_ms": float}],
        "reference": str,
        "ratio": float,
        "ratio_interval_95": list,
        "equal_accuracy_speedup": float,
        "verdict": str,
    },
}


@pytest.fixture(scope="module")
def result(finished: Finished) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((finished.project.latest / RESULT).read_bytes())
    return document


@pytest.fixture(scope="module")
def latest(finished: Finished) -> Path:
    assert finished.with_them.exit_code == 0, finished.with_them.document
    return finished.project.latest


def _started(answer: Answer) -> list[str]:
    return [event["stage"] for event in answer.events if event["event"] == "stage_started"]


def test_missing_images_are_told_before_anything_is_measured(finished: Finished) -> None:
    refused = finished.refused
    assert refused.exit_code == 8
    assert refused.document["error"]["type"] == "DatasetMissingError"
    assert "t10k" in refused.document["error"]["message"]
    assert refused.words == [
        f"error: {refused.document['error']['message']}",
        f"hint: {refused.document['error']['hint']}",
    ]
    assert _started(refused) == []


def test_every_choice_is_made_before_the_test_images_are_read(finished: Finished) -> None:
    first = finished.without_test_images
    assert first.exit_code == 0, first.document
    assert _started(first) == list(STAGE_NAMES[:-1])
    assert finished.with_them.actions == {**dict.fromkeys(STAGE_NAMES[:-1], "fresh"), "verify": "run"}


def test_it_ends_well_and_everything_lies_where_it_should(finished: Finished, latest: Path) -> None:
    assert finished.with_them.document["verdict"] == "ungated"
    assert finished.with_them.words == [], "standard error holds events alone"
    names = {*FILES, other_model("float16"), other_model("int8")}
    assert {path.name for path in latest.iterdir()} == {*names, MANIFEST}
    named = finished.with_them.document["files"]
    assert named == {name: str(latest / name) for name in names}
    hashes = json.loads((latest / MANIFEST).read_bytes())["sha256"]
    assert hashes == {name: hashlib.sha256((latest / name).read_bytes()).hexdigest() for name in names}


def test_the_result_has_every_promised_field(finished: Finished, result: dict[str, Any]) -> None:
    assert list(_missing(result, PROMISED)) == []
    assert list(_missing(finished.with_them.document, PROMISED)) == []
    ResultDocument.model_validate(result)


def _missing(seen: Any, promised: Any, key: str = "") -> Iterator[str]:
    if isinstance(promised, Mapping):
        for name, inner in promised.items():
            if name not in seen:
                yield f"{key}.{name} is missing"
            else:
                yield from _missing(seen[name], inner, f"{key}.{name}")
    elif isinstance(promised, list):
        if not seen:
            yield f"{key} is empty"
        for index, item in enumerate(seen):
            yield from _missing(item, promised[0], f"{key}[{index}]")
    elif not isinstance(seen, (int, float) if promised is float else promised):
        yield f"{key} is {seen!r}"


def test_the_figures_agree_with_each_other(result: dict[str, Any]) -> None:
    found, search, verification = result["network"], result["search"], result["verification"]
    networks = {network["name"]: network for network in verification["networks"]}
    assert {network["role"] for network in networks.values()} == {"found", "random", "baseline"}
    assert found["accuracy_interval_95"][0] < found["accuracy_percent"] < found["accuracy_interval_95"][1]
    assert search["predicted_ms"] <= search["target_ms"]
    assert networks["random"]["predicted_ms"] == pytest.approx(search["predicted_ms"], rel=0.25)
    measured = networks["found"]["median_ms"] / networks[verification["reference"]]["median_ms"]
    assert verification["ratio"] == pytest.approx(measured, rel=0.2)
    assert verification["equal_accuracy_speedup"] == pytest.approx(1 / verification["ratio"])
    assert result["latency_model"]["blocks"] == 15
    assert len({network["images_seen"] for network in networks.values()}) == 1, "equal terms"


def test_the_networks_have_learned(result: dict[str, Any]) -> None:
    found = next(n for n in result["verification"]["networks"] if n["role"] == "found")
    assert found["accuracy_interval_95"][0] > 20, "a tenth would be guessing"


def test_the_tflite_file_scores_what_the_result_says(latest: Path, result: dict[str, Any]) -> None:
    images = open_dataset(DataConfig()).load("test")
    with LocalDevice() as here:
        answers_NK = here.run_model((latest / MODEL).read_bytes(), images.batch_NHWC(slice(None)))
    accuracy = 100 * float((answers_NK.argmax(1) == images.labels).mean())
    assert result["network"]["accuracy_percent"] == pytest.approx(accuracy, abs=1e-6)


def test_two_lines_load_the_network_that_the_tflite_file_holds(
    finished: Finished, latest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    lines = PYTHON_PAGE.read_text(encoding="utf-8").splitlines()
    snippet = [line for line in lines if line == "from nasflow import api" or "api.load_network(" in line]
    assert len(snippet) == 2
    monkeypatch.chdir(finished.project.path)
    names: dict[str, Any] = {}
    exec("\n".join(snippet), names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    assert not model.training

    x_NHWC = open_dataset(DataConfig()).load("test").batch_NHWC(slice(200))
    with torch.no_grad():
        in_python = model(torch.from_numpy(x_NHWC).permute(0, 3, 1, 2)).softmax(dim=1).numpy()
    with LocalDevice() as here:
        in_litert = here.run_model((latest / MODEL).read_bytes(), x_NHWC)
    assert in_litert.shape == (200, 10)
    np.testing.assert_allclose(in_litert, in_python, rtol=0, atol=1e-4)
    np.testing.assert_allclose(in_litert.sum(axis=1), 1, rtol=0, atol=1e-5)
    assert (in_litert.argmax(1) == in_python.argmax(1)).all()


def test_the_tflite_file_has_fused_operators_in_one_piece(latest: Path, result: dict[str, Any]) -> None:
    structure = inspect_model((latest / MODEL).read_bytes())
    assert {"PAD", "PADV2", "TRANSPOSE", "MUL", "RELU6", "BATCH_MATMUL"}.isdisjoint(structure.operator_counts)
    assert structure.operators == result["conversion"][0]["operators"]
    assert structure.delegate_partitions == 1
    assert (structure.input_shape, structure.input_type) == ((1, 32, 32, 3), "float32")
    assert (structure.output_shape, structure.output_type) == ((1, 10), "float32")


def test_the_report_needs_nothing_from_outside(latest: Path) -> None:
    html = (latest / REPORT).read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", html) == []
    assert html.count("<svg") >= 4


def test_a_second_run_does_nothing_and_loads_nothing(finished: Finished, latest: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in latest.iterdir()}
    again = finished.project.call("run", "--json", interpreter=("-X", "importtime"))
    document = json.loads(again.stdout)
    assert again.returncode == 0
    assert document["nothing_to_do"]
    assert document["network"] == finished.with_them.document["network"]
    assert {path: path.stat().st_mtime_ns for path in latest.iterdir()} == before
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", again.stderr, re.MULTILINE))
    assert "nasflow.commands.project" in imported
    assert imported & HEAVY == set()


def test_for_a_person_it_says_that_there_is_nothing_to_do(finished: Finished) -> None:
    again = finished.project.call("run")
    assert again.returncode == 0
    assert again.stdout.endswith("Nothing to do: all 9 stages are up to date.\n")
    assert "artifacts/latest/report.html" in again.stdout


def test_status_says_that_all_is_fresh_and_what_it_weighs(finished: Finished) -> None:
    status = finished.project.ask("status")
    assert status.exit_code == 0
    assert all(stage["fresh"] for stage in status.document["stages"])
    assert status.document["usage_bytes"]["blobs"] > 10_000
    assert status.document["usage_bytes"]["scratch"] == 0


def test_tidying_up_and_reporting_anew_lose_nothing(project: ProjectFolder) -> None:
    result = (project.latest / RESULT).read_bytes()
    for path in project.latest.iterdir():
        path.unlink()
    assert project.ask("clean", "--superseded").exit_code == 0
    assert project.ask("report").exit_code == 0
    assert (project.latest / RESULT).read_bytes() == result
    assert project.ask("run").document["nothing_to_do"]
