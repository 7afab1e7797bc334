"""``--all``: which phone each gate is measured on, and where its blocks are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.scripted_device import ScriptedDevice
from test_gate_files import result

from android_bench.adb.listing import Listed
from android_bench.device import RuntimeOptions
from android_bench.found_phone import FoundPhone
from nasflow.cli.request import Selection
from nasflow.commands.gate_all import gate_all
from nasflow.commands.gate_files import write_result
from nasflow.commands.gate_options import GateOptions
from nasflow.commands.project import Project, standalone
from nasflow.gate.measure import Gate
from nasflow.gate.subjects import Subject
from pipeline.events import Emit
from stages.conversion.inspector import InspectedModel
from stages.documents.gate import GatePlan, GateResult


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return standalone(Selection(device="android"), {})


@pytest.mark.parametrize("state", ["no permissions", "offline", "unauthorized"])
def test_a_phone_without_a_name_that_cannot_be_used_gets_no_other_phones_verdict(
    project: Project, state: str
) -> None:
    """It has no serial number either: the only usable phone would be taken for it."""
    measured: list[str] = []

    def measure(project: Project, file: Path, emit: Emit, phone: FoundPhone | None) -> GateResult:
        measured.append(project.config.device)
        write_result(file, result(0.5))
        return result(0.5)

    found = [FoundPhone("R5CT1", "usb", "device", model="Pixel 8"), FoundPhone("", "usb", state)]
    options = GateOptions(candidate=Path("a.tflite"), against="b.tflite", all_phones=True)
    outcome = gate_all(project, found, options, measure, lambda _event: None)
    assert measured == ["android:R5CT1"]
    assert outcome.exit_code == 4
    first, second = outcome.document["phones"]
    assert first["gate"]["verdict"] == "pass"
    assert second["gate"] is None
    assert state in second["error"]["message"]


def test_blocks_of_phones_that_share_a_serial_number_are_kept_apart(project: Project) -> None:
    seen = InspectedModel.model_construct(inputs=())
    model = Subject("a", b"x", seen)
    gate = Gate(model, model, model, GatePlan(max_ratio=1.0), RuntimeOptions())

    def folder(connection: str) -> Path:
        return gate.scratch(ScriptedDevice({}), lambda _event: None, connection).folder

    assert folder("") == folder("")
    assert len({folder(""), folder("transport_id:3"), folder("transport_id:4")}) == 3


def test_phones_that_share_a_serial_number_are_measured_by_their_connections(project: Project) -> None:
    measured: list[str] = []

    def measure(project: Project, file: Path, emit: Emit, phone: FoundPhone | None) -> GateResult:
        measured.append(project.config.device)
        return result(0.5)

    found = [
        FoundPhone("0123456789", "server", "device", connection=Listed("0123456789", "device", "", "", n))
        for n in (3, 4)
    ]
    options = GateOptions(candidate=Path("a.tflite"), against="b.tflite", all_phones=True)
    gate_all(project, found, options, measure, lambda _event: None)
    assert measured == ["android:transport_id:3", "android:transport_id:4"]
