"""``python -m tests.regression BASE``: commit BASE and the working tree must give equal numbers, bit by bit.

Both run the whole pipeline at a tiny size on a simulated device, with the same images and one thread:
profile, latency model, a search and trainings of some hundred steps, conversion, verification. Compared is
every document that a stage makes: probabilities, losses, predictions, the hashes of weights and models. What
was renamed meanwhile stands in ``RENAMED``. It takes some minutes, and needs git and no network.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "tests" / "integration" / "tiny"
RENAMED: Mapping[str, str] = {
    r"^(convert\.networks\[\d+\])\.float32_check\b": r"\1.files[0].check",
    r"^(convert\.networks\[\d+\])\.float32\b": r"\1.files[0].blob",
}
"""Patterns of paths as BASE calls them (0.1), and the paths in the working tree."""
NEW = re.compile(r"^convert\.(schema_version|networks\[\d+\]\.files\[0\]\.precision)$")
"""Paths that say how a document is written, and are not in BASE or another there."""


def run(code: Path, folder: Path) -> dict[str, Any]:
    """What the code in one folder makes of the tiny configuration."""
    settings = code / "tests" / "integration" / "tiny"
    for file in (settings if settings.is_dir() else SETTINGS).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    driver = Path(__file__).with_name("driver.py")
    command = [sys.executable, "-P", str(driver), str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text in a document, by its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def renamed(path: str) -> str:
    """A path of BASE as the working tree calls it."""
    for old, new in RENAMED.items():
        path = re.sub(old, new, path)
    return path


def main() -> int:
    """0 where all is equal, 1 with the differences where it is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.regression", description=__doc__)
    parser.add_argument("base", metavar="BASE", help="the commit to compare with")
    base = parser.parse_args().base
    with tempfile.TemporaryDirectory(prefix="nasflow-regression-") as temporary:
        code = Path(temporary, "code")
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(code), base], cwd=ROOT, check=True
        )
        try:
            folders = [Path(temporary, name) for name in ("before", "after")]
            for folder in folders:
                folder.mkdir()
            before, after = run(code, folders[0]), run(ROOT, folders[1])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(code)], cwd=ROOT, check=True)
    old, new = {renamed(path): value for path, value in leaves(before)}, dict(leaves(after))
    paths = [path for path in old.keys() | new.keys() if not NEW.match(path)]
    differing = sorted(path for path in paths if old.get(path) != new.get(path))
    for path in differing[:50]:
        sys.stdout.write(f"{path}: {old.get(path, 'absent')} -> {new.get(path, 'absent')}\n")
    sys.stdout.write(f"{len(new)} values, {len(differing)} differ.\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
