"""Whether memory grows with the number of photos, through the whole pipeline.

The largest process (its highest resident size) of three commands, each with an empty cache: ``data check``
(every file read, copies searched, parts decided), and a whole run until the last stage that trains, with
photos that are decoded once (``cached``) and with photos that two more processes decode each time
(``streamed``); of 2,000 photos and of 20,000, with ``--quick`` of 500 and 5,000. The photos are small JPEGs
that this benchmark makes in a temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._report import Outcome, at_most, main, say
from benchmarks.photo_loading import write_photos

UNTIL = ("run", "--until", "finetune", "--json")
COMMANDS: Mapping[str, Sequence[str]] = {
    "data_check": ("data", "check", "photos", "--json"),
    "cached_run": UNTIL,
    "streamed_run": (*UNTIL, "--set", "data.cache_gigabytes=0", "--set", "data.workers=2"),
}
CONFIG = """
seed: 1
data: {source: folder, path: photos}
space: {name: tiny.yaml}
measurement: {rounds: 5, extra_rounds: 0, interval_percent: 80, warmup_ms: 5, min_ms: 20}
target: {ratio: 0.12, minimum_share: 0.5}
training: {epochs: 1, side_by_side: 1}
profile: {anchor_width: 0.35}
latency: {calibration_networks: 5, held_out_networks: 5}
search: {warmup_epochs: 1, epochs: 1, batch_size: 32}
prune: {candidates: 2, recalibration_batches: 4}
baseline: {widths: [0.35], published_widths: []}
"""
SPACE = """
name: tiny
resolution: 32
classes: 2
stem: {width: 16, kernel: 3, stride: 2}
stages:
  - {width: 16, layers: 1, stride: 2}
  - {width: 24, layers: 2, stride: 2}
head_width: 64
candidates:
  - {kernel: 3, expansion: 2}
  - {kernel: 5, expansion: 4}
"""


PROGRAM = """
import resource, subprocess, sys
words = [sys.executable, '-m', 'nasflow', *sys.argv[1:]]
code = subprocess.call(words, stdout=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_megabytes(photos: Path, name: str) -> float:
    """The largest resident size of any process of a command, in MB (1e6 bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "photos").symlink_to(photos)
        Path(folder, "pipeline.yaml").write_text(CONFIG)
        Path(folder, "tiny.yaml").write_text(SPACE)
        root = Path(__file__).parents[1]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *COMMANDS[name]],
            cwd=folder,
            env={**os.environ, "XDG_CACHE_HOME": f"{folder}/cache", "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
    code, kilobytes = map(int, done.stdout.split())
    if code:
        raise RuntimeError(f"{name} ended with exit code {code}:\n{done.stderr[-2000:]}")
    return kilobytes * 1024 / 1e6


def run(full: bool, names: Sequence[str] = tuple(COMMANDS)) -> Outcome:
    """Measure every command with few photos and with ten times as many."""
    few, many = (2_000, 20_000) if full else (500, 5_000)
    figures: dict[str, float] = {"few_photos": few, "many_photos": many}
    bars = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (few, many):
            write_photos(Path(folder, str(count)), count, (64, 48))
        for name in names:
            peaks = [peak_megabytes(Path(folder, str(count)), name) for count in (few, many)]
            say(f"{name}: {peaks[0]:.0f} MB with {few:,} photos, {peaks[1]:.0f} MB with {many:,}")
            figures[f"{name}_few_megabytes"], figures[f"{name}_many_megabytes"] = peaks
            bars.append(at_most(f"{name}_many_over_few", peaks[1] / peaks[0], 1.1))
    return Outcome(figures=figures, bars=bars)


if __name__ == "__main__":
    sys.exit(main("photo_memory", run))
