"""``nasflow doctor``: each check finds what is wrong, says how to mend it, and never raises."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from support.photo_folder import photo_folder

from nasflow.base.errors import ConfigError
from nasflow.cli.app import main
from nasflow.commands.doctor import examine
from nasflow.config import PipelineConfig
from nasflow.doctor import checks as doctor

DiskUsage = namedtuple("DiskUsage", ["total", "used", "free"])


def _installed(folder: Path, *requirements: str, python: str = ">=3.11") -> None:
    """What pip leaves of a nasflow with these requirements."""
    metadata = folder / "nasflow-9.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.4", "Name: nasflow", "Version: 9.9", f"Requires-Python: {python}"]
    metadata.write_text(
        "\n".join([*lines, *(f"Requires-Dist: {line}" for line in requirements), ""]), encoding="utf-8"
    )


def test_this_environment_passes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").touch()
    assert main(["doctor", "--config", str(tmp_path / "pipeline.yaml"), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    states = {check["name"]: check["state"] for check in document["checks"]}
    names = {"python", "own packages", "package torch", "configuration", "disk", "memory", "cpu", "runtime"}
    assert names <= states.keys()
    assert document["healthy"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


def test_packages_are_checked_against_the_ranges_of_the_installed_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(
        tmp_path,
        "typer>=0.1",
        "rich<2,>=1",
        "surely-not-installed>=3",
        "not-for-this-system; platform_system == 'Elsewhere'",
        "only-for-developers; extra == 'dev'",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    checks = {check.name: check for check in doctor.check_packages()}
    assert {name: check.state for name, check in checks.items()} == {
        "package typer": "ok",
        "package rich": "failed",
        "package surely-not-installed": "failed",
    }
    assert "but <2,>=1 is needed" in checks["package rich"].found
    assert checks["package rich"].mend == f"{sys.executable} -m pip install 'rich<2,>=1'"
    assert checks["package surely-not-installed"].found == "not installed"


def test_a_python_out_of_range_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, python=">=2.7,<3")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = doctor.check_python()
    assert check.state == "failed"
    assert "<3,>=2.7 is needed" in check.found or ">=2.7,<3 is needed" in check.found


def test_a_broken_configuration_is_a_finding_and_the_other_checks_go_on(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("serach: {}\nsed: 1\n", encoding="utf-8")
    outcome = examine(tmp_path / "pipeline.yaml")
    checks = {check["name"]: check for check in outcome.document["checks"]}
    assert outcome.exit_code == 8
    assert checks["configuration"]["state"] == "failed"
    assert "serach" in checks["configuration"]["found"]
    assert checks["runtime"]["state"] == "ok"
    assert "FAIL  configuration" in outcome.text
    assert "1 of the checks failed" in outcome.text


def test_no_configuration_is_no_failure() -> None:
    check = next(check for check in doctor.examine_all(None, Path("/")) if check.name == "configuration")
    assert check.state == "ok"
    assert "nasflow init" in check.found


def test_an_empty_data_folder_fails_with_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("data: {folder: nothing-here}\n", encoding="utf-8")
    checks = doctor.examine_all(tmp_path / "pipeline.yaml", tmp_path)
    check = next(check for check in checks if check.name == "data set")
    assert check.state == "failed"
    assert str(tmp_path / "nothing-here") in check.found
    assert check.mend


def test_a_missing_data_set_that_can_be_fetched_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.fashion_mnist.DEBIAN_FOLDER", tmp_path / "no-package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check = doctor.check_dataset(PipelineConfig(), tmp_path)
    assert check.state == "warning"
    assert "dataset-fashion-mnist" in check.mend


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = doctor.check_folder(tmp_path / "file" / "artifacts")
    assert check.state == "failed"
    assert "cannot be written" in check.found
    assert doctor.check_folder(tmp_path / "new" / "artifacts").state == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**12, 10**12 - 10**6, 10**6))
    check = doctor.check_disk(tmp_path / "artifacts")
    assert check.state == "failed"
    assert "nasflow clean" in check.mend


@pytest.mark.parametrize(("load", "state"), [(0.0, "ok"), (1000.0, "warning")])
def test_a_busy_computer_is_a_warning(load: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    assert doctor.check_load().state == state


def test_more_threads_than_cores_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    (tmp_path / "pipeline.yaml").write_text("runtime: {threads: 64}\n", encoding="utf-8")
    for device, state in (("local", "warning"), ("android", "ok")):
        checks = doctor.examine_all(tmp_path / "pipeline.yaml", tmp_path, [f"device={device}"])
        check = next(check for check in checks if check.name == "cpu")
        assert check.state == state
    assert doctor.check_load(1).state == "ok"


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**18}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    check = doctor.check_memory()
    assert check.state == "warning"
    assert check.found.startswith("1.0 GiB")


def test_a_runtime_that_does_not_load_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    for module in ("flatbuffer", "measured"):  # which other tests have loaded
        monkeypatch.delitem(sys.modules, f"stages.conversion.{module}", raising=False)
    check = doctor.check_runtime()
    assert check.state == "failed"
    assert "ai_edge_litert" in check.found
    assert check.mend


def test_offline_a_missing_data_set_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.fashion_mnist.DEBIAN_FOLDER", tmp_path / "no-package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcome = examine(None, offline=True)
    check = next(check for check in outcome.document["checks"] if check["name"] == "data set")
    assert (check["state"], outcome.exit_code) == ("failed", 8)
    assert "offline it is not downloaded" in check["found"]
    assert "dataset-fashion-mnist" in check["mend"]


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no such device"):
        examine(None, "andriod")


def test_a_phone_is_looked_at_where_the_configuration_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def no_phone(settings: PipelineConfig, base_dir: Path, recorder: object) -> list[doctor.Check]:
        assert recorder is None
        asked.append(settings.device)
        return []

    monkeypatch.setattr("nasflow.doctor.phone.examine_phone", no_phone)
    (tmp_path / "pipeline.yaml").write_text("device: android:R5CT1\n", encoding="utf-8")
    examine(tmp_path / "pipeline.yaml")
    examine(tmp_path / "pipeline.yaml", "local")
    assert asked == ["android:R5CT1"]


def test_a_broken_configuration_is_told_although_a_phone_is_named(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("serach: {}\n", encoding="utf-8")
    outcome = examine(tmp_path / "pipeline.yaml", "android")
    checks = {check["name"]: check for check in outcome.document["checks"]}
    assert (checks["configuration"]["state"], checks["phone"]["found"]) == ("failed", "not checked")
    assert outcome.exit_code == 8


def test_a_key_that_others_may_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasflow.doctor.phone import check_key

    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_key().state == "ok"
    key = tmp_path / ".android" / "adbkey"
    key.chmod(0o644)
    check = check_key()
    assert (check.state, check.mend) == ("warning", f"chmod 600 {key}")


def test_a_folder_of_ones_own_is_read_and_what_is_left_out_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = photo_folder(tmp_path / "photos", {"ape": 40, "bee": 40})
    settings = PipelineConfig.model_validate({"data": {"source": "folder", "path": "photos"}})
    check = doctor.check_dataset(settings, tmp_path)
    assert (check.state, check.found.endswith(f"images in {root}")) == ("ok", True)
    (root / "ape" / "torn.png").write_bytes(b"")
    torn = settings.model_copy(update={"data": settings.data.model_copy(update={"split_seed": 1})})
    check = doctor.check_dataset(torn, tmp_path)
    assert check.state == "warning"
    assert "1 of 81 images cannot be read" in check.found
    assert "nasflow data check" in check.mend


def test_a_folder_of_ones_own_that_cannot_be_learned_from_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = PipelineConfig.model_validate({"data": {"source": "folder", "path": "photos"}})
    check = doctor.check_dataset(settings, tmp_path)
    assert (check.state, "photos" in check.found) == ("failed", True)
    photo_folder(tmp_path / "photos", {"ape": 4})
    check = doctor.check_dataset(settings, tmp_path)
    assert (check.state, "one class only" in check.found) == ("failed", True)
    assert check.mend
