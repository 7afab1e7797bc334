"""Records name the very code that made a result."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from nasflow.base.version import PACKAGES, code_sha256, sources_sha256

ROOT = Path(__file__).resolve().parents[3]


def test_one_edited_moved_or_new_file_changes_the_hash(tmp_path: Path) -> None:
    copies = [
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in PACKAGES
    ]
    assert sources_sha256(copies) == code_sha256()
    seen = {code_sha256()}
    edited = tmp_path / "stages" / "convert.py"
    edited.write_text(edited.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    seen.add(sources_sha256(copies))
    edited.rename(edited.with_name("moved.py"))
    seen.add(sources_sha256(copies))
    (tmp_path / "stages" / "new.py").touch()
    seen.add(sources_sha256(copies))
    assert len(seen) == 4
    (tmp_path / "stages" / "notes.txt").write_text("no code", encoding="utf-8")
    assert sources_sha256(copies) in seen


def test_every_package_of_ours_is_hashed() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(PACKAGES) == set(configured["tool"]["importlinter"]["root_packages"])
