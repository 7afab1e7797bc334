"""Accounts whose home nobody knows, as in a container that runs under a bare number, or may not be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from android_bench.adb.keys import default_key
from android_bench.runner import download
from nasflow.assemble import artifacts_folder, resolve_data
from nasflow.base.errors import MachineError, UsageError
from nasflow.base.files import cache_folder
from nasflow.config import PipelineConfig
from nasflow.doctor import checks as doctor
from stages.data import fashion_mnist as data
from stages.data.config import DataConfig


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(account: object) -> None:
        raise KeyError(f"getpwuid(): uid not found: {account}")

    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_what_needs_a_home_names_the_variable_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MachineError, match="no home folder") as caught:
        default_key()
    assert "HOME" in caught.value.hint
    with pytest.raises(MachineError, match="no home folder") as caught:
        cache_folder()
    assert "XDG_CACHE_HOME" in caught.value.hint
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nasflow"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_key() == tmp_path / ".android" / "adbkey"


@pytest.mark.usefixtures("homeless")
def test_images_of_the_system_s_package_need_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    assert data.find_file("train-images-idx3-ubyte", None) == tmp_path / "train-images-idx3-ubyte.gz"
    check = doctor.check_dataset(PipelineConfig(), tmp_path)  # the other three are looked for in the cache
    assert (check.state, "no home folder" in check.found) == ("failed", True)
    assert "XDG_CACHE_HOME" in check.mend


def test_a_tilde_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    path = "~no-such-account/x"
    for attempt in (
        lambda: artifacts_folder(PipelineConfig(artifacts=path), tmp_path),
        lambda: resolve_data(DataConfig(path=path), tmp_path),
        lambda: download.obtain(path, abis=("arm64-v8a",), project=tmp_path),
    ):
        with pytest.raises(UsageError, match="~no-such-account/x begins with a home folder"):
            attempt()


MAKE_A_KEY = """
import os, sys
from pathlib import Path
from android_bench.adb.keys import ensure_key
from nasflow.base.errors import MachineError
import cryptography.hazmat.primitives.asymmetric.rsa, cryptography.hazmat.primitives.serialization
if os.geteuid() == 0:  # root may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    ensure_key(Path("home", ".android", "adbkey"))
except MachineError as error:
    print(error.exit_code, error.message, error.hint)
"""


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "somebody else's"])
def test_a_home_that_cannot_be_written_is_one_clear_line(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", MAKE_A_KEY],
        cwd=tmp_path,  # others may not come here by its path
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    home.chmod(0o755)
    assert done.stderr == ""
    assert "adbkey cannot be created: Permission denied." in done.stdout
    assert done.stdout.startswith("8 ") and "set HOME to a writable folder" in done.stdout
