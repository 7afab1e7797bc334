"""``--devices ... --train``: each device's results in a folder of its own, which other commands take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cross_tables import sample_cross_table
from support.finished_run import finish
from support.sample_documents import sample_documents

from nasflow.base.errors import UsageError
from nasflow.cli.app import main
from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.cross_run import run_on_devices
from nasflow.commands.cross_train import folder_names
from nasflow.commands.ship import find_run
from nasflow.hardware_targets import NamedTarget, parse_targets
from nasflow.publish import CROSS_TABLE, REPORT, RESULT, artifacts_of, cross_table_of
from pipeline.artifact import document_bytes


def test_each_device_gets_a_readable_folder_and_each_another() -> None:
    targets = parse_targets("local,local@threads=2,android:[::1]:5555,android:../../etc")
    assert list(folder_names(targets).values()) == [
        "local",
        "local@threads=2",
        "android-1-5555",
        "android-..-..-etc",
    ]
    alike = [NamedTarget(name, ()) for name in ("a:b", "A-b", "a b", "..", "é")]
    assert list(folder_names(alike).values()) == ["a-b", "A-b-2", "a-b-3", "device", "device-2"]


def move_to_devices(project: Path, name: str) -> Path:
    """As if it were that device's run."""
    folder = project / "artifacts" / "devices" / name
    folder.parent.mkdir()
    return (project / "artifacts" / "latest").rename(folder)


def test_a_devices_folder_is_a_finished_run_for_other_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = finish(tmp_path / "fashion"), finish(tmp_path / "other")
    folder = move_to_devices(first, "local@threads=2")
    assert artifacts_of(folder) == first / "artifacts"
    assert artifacts_of(second / "artifacts" / "latest") == second / "artifacts"
    run = find_run(folder)
    assert (run.latest, run.default_name) == (folder, "fashion-local@threads=2")
    assert main(["compare", str(folder), str(second)]) == 0
    assert "fashion-local@threads=2" in capsys.readouterr().out
    assert main(["ship", str(folder), "--version", "1.0.0", "--name", "it"]) == 0
    assert (first / "artifacts" / "shipped" / "it-1.0.0").is_dir()


def test_a_phones_serial_number_names_no_package(tmp_path: Path) -> None:
    folder = move_to_devices(finish(tmp_path / "fashion"), "android-R5CT123ABC")
    run = find_run(folder)
    assert run.default_name == "fashion-android-R5CT123ABC"
    assert run.package_name == "fashion-sample-computer"
    (folder / "result.json").write_text("{")
    assert find_run(folder).package_name == "fashion-device"


def test_an_artifacts_folder_called_devices_is_no_run_of_a_device(tmp_path: Path) -> None:
    (tmp_path / "devices" / "records").mkdir(parents=True)
    assert artifacts_of(tmp_path / "devices" / "latest") == tmp_path / "devices"


def test_a_report_shows_the_cross_table_that_its_run_stands_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = finish(tmp_path / "p") / "artifacts"
    assert cross_table_of(artifacts, sample_documents()) is None
    table = sample_cross_table()
    (artifacts / CROSS_TABLE).write_bytes(document_bytes(table))
    assert cross_table_of(artifacts, sample_documents()) == table
    finish(tmp_path / "p")
    assert 'id="cross-table"' in (artifacts / "latest" / REPORT).read_text()
    assert json.loads((artifacts / "latest" / RESULT).read_text())["cross_table"]["space"] == table.space
    page = tmp_path / "page.html"
    finish(tmp_path / "other")
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "p"), str(tmp_path / "other"), "--page", str(page)]) == 0
    assert "on local@threads=2, ms" in capsys.readouterr().out
    assert 'id="cross-table"' in page.read_text()


@pytest.mark.parametrize("change", ["network", "device", "damaged"])
def test_a_table_of_other_runs_is_left_out(tmp_path: Path, change: str) -> None:
    artifacts, table = finish(tmp_path / "p") / "artifacts", sample_cross_table()
    if change == "network":
        others = tuple(n.model_copy(update={"net": table.networks[1].net}) for n in table.networks)
        table = table.model_copy(update={"networks": others})
    if change == "device":
        targets = tuple(
            t.model_copy(update={"device": t.device.model_copy(update={"soc": "x"})}) for t in table.targets
        )
        table = table.model_copy(update={"targets": targets})
    content = document_bytes(table)
    (artifacts / CROSS_TABLE).write_bytes(content[:100] if change == "damaged" else content)
    assert cross_table_of(artifacts, sample_documents()) is None


def test_what_goes_on_after_an_interruption_is_the_whole_command() -> None:
    words = ("run", "--config", "a b.yaml", "--devices", "local,onnxruntime", "--train")
    options = RunOptions(Selection(assignments=("device=local",)), until="search", part_of=words)
    assert options.resume_command().endswith("run --config 'a b.yaml' --devices local,onnxruntime --train")
    assert options.resume_command(["verify"]).endswith("--train --force verify")
    hint = options.with_selection("Measure again: nasflow run --force profile.")
    assert hint.endswith("--devices local,onnxruntime --train --force profile.")


def test_folds_are_refused_with_train_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("data: {source: folder, path: photos, folds: 3}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="test images would have been searched on"):
        run_on_devices(RunOptions(Selection(file)), "local,local@threads=2", train=True)
    assert list(tmp_path.iterdir()) == [file]
