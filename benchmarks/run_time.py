"""How long does the quick start take, against an earlier version of the program on the same computer?

Both run the whole pipeline by their own ``pipeline.yaml``, all epochs of it, one after the other: this one
first, then commit 1700a1b, the last one whose trainings ran one after another. The earlier one comes out of
this repository's history; it needs the same packages. Results are kept in this account's cache until the end:
a second call goes on where the first was stopped, but a run that was interrupted begins anew, as its time
would not count.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks._report import Outcome, at_least, at_most, main, say
from nasflow.base.errors import UsageError

EARLIER = "1700a1b"
REPOSITORY = Path(__file__).resolve().parents[1]
VERSIONS: Mapping[str, Sequence[str]] = {"present": ("--full-length",), "earlier": ()}
"""Each with its options: the earlier one knows no shorter length."""
QUICK = ("--set", "data.train_images=2000")
COMPARED = ("found", "mobilenet_v2_0.35", "mobilenet_v2_0.5")
MOST = 0.55


def run(full: bool) -> Outcome:
    """Run both; without ``full`` on few images, which says little of the ratio."""
    folder = user_cache_path("nasflow") / "benchmarks" / f"run_time-{'full' if full else 'quick'}"
    kept = {name: folder / f"{name}.json" for name in VERSIONS}
    for name, file in kept.items():
        if not file.exists():
            measured = json.dumps(_measured(name, folder / name, () if full else QUICK))
            file.write_text(measured, encoding="utf-8")
    outcome = summarise({name: json.loads(file.read_text(encoding="utf-8")) for name, file in kept.items()})
    shutil.rmtree(folder)
    return Outcome(outcome.figures, outcome.bars if full else ())


def summarise(measured: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """The ratio of times, and the differences in accuracy, present less earlier, with 95 % intervals."""
    present, earlier = measured["present"], measured["earlier"]
    ratio = present["seconds"] / earlier["seconds"]
    differences = {
        name: _difference(present["networks"][name], earlier["networks"][name]) for name in COMPARED
    }
    bars = [at_most("seconds_ratio", ratio, MOST)]
    bars += [at_least(f"{name}_upper_end", high, 0.0) for name, (_, _, high) in differences.items()]
    figures = {"seconds_ratio": ratio, "minus_earlier_points": differences, **measured}
    return Outcome(figures, bars)


def _difference(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Of two accuracies, each (value, low, high): difference and interval, as if the images were others."""
    value = one[0] - other[0]
    half = sum(((high - low) / 2) ** 2 for _, low, high in (one, other)) ** 0.5
    return [value, value - half, value + half]


def _measured(name: str, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Seconds of a whole run in a fresh folder, and accuracies with their intervals."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with _code(name) as code:
        shutil.copy(code / "pipeline.yaml", folder)
        command = [sys.executable, "-P", "-m", "nasflow", "run", *VERSIONS[name], *options]
        say(f"run_time: the {name} version, {' '.join(command[4:])}")
        began = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(code)}
        done = subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr, check=False)
        seconds = time.monotonic() - began
    if done.returncode:
        raise UsageError(
            f"the {name} version ended with status {done.returncode}.",
            hint="Its words are above. Both versions need the packages that constraints.txt names.",
        )
    result = json.loads((folder / "artifacts" / "latest" / "result.json").read_text(encoding="utf-8"))
    networks = {
        network["name"]: [network["accuracy_percent"], *network["accuracy_interval_95"]]
        for network in result["verification"]["networks"]
    }
    return {"seconds": seconds, "networks": networks}


@contextmanager
def _code(name: str) -> Iterator[Path]:
    """Where a version's code lies. Raises UsageError where the history does not hold it."""
    if name == "present":
        yield REPOSITORY
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "code.tar"
        done = subprocess.run(
            ["git", "archive", "--output", str(archive), EARLIER],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UsageError(
                f"commit {EARLIER} cannot be read: {done.stderr.strip()}",
                hint="The benchmark needs a clone with the whole history (git fetch --unshallow).",
            )
        code = Path(folder) / "code"
        shutil.unpack_archive(archive, code)
        yield code


if __name__ == "__main__":
    sys.exit(main("run_time", run))
