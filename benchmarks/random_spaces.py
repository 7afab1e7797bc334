"""Does every legal space end well? Random ones through the real command line, from ``profile`` to ``verify``.

A space is drawn at random (:mod:`benchmarks._random_spaces`) and run with settings as small as may be. It
must end with a verified network, or be refused with the reason before anything is trained; never with exit
code 70. Half of the spaces are for the images that there are (32 pixels, 10 classes) and go the whole way.
The others have resolutions, channels and classes for which there are no images: those are measured and
converted untrained (until ``precheck``), and a whole run must refuse them at once.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks._random_spaces import largest_macs, random_space
from benchmarks._report import Outcome, at_most, main, say
from pipeline.store.store import Store
from stages.documents import LatencyModel
from stages.space.search_space import SearchSpace

SPACES = {False: 5, True: 100}
TRAINABLE_MACS, MEASURABLE_MACS = 12_000_000, 40_000_000
COMMAND_SECONDS = 1200
REFUSAL_SECONDS = 120.0
"""For a space that is refused, its measuring included, on a computer that does other things, too."""
TRAINING = frozenset({"search", "prune", "finetune", "baseline"})
_TIMED = {
    "rounds": 6,
    "extra_rounds": 0,
    "interval_percent": 100,
    "warmup_ms": 0.5,
    "min_ms": 3,
    "min_runs": 2,
}
SETTINGS: Mapping[str, Any] = {
    "space": {"name": "space.yaml"},
    "measurement": _TIMED,
    "target": {"minimum_share": 0.3},
    "training": {"epochs": 1, "batch_size": 32},
    "data": {"train_images": 200, "architecture_images": 100},
    "profile": {"anchor_width": 0.1},
    "latency": {"calibration_networks": 3, "held_out_networks": 3},
    "precheck": {"rounds": 3, "warmup_ms": 0.2, "min_ms": 2, "max_ratio": 3},
    "search": {"warmup_epochs": 1, "epochs": 1, "batch_size": 32, "architecture_batch_size": 32},
    "prune": {
        "candidates": 2,
        "recalibration_batches": 1,
        "random_networks": 1,
    },
    "baseline": {"widths": [0.1], "published_widths": []},
    "convert": {"images": 16},
    "verify": {"rounds": 3, "max_rounds": 3, "precision_percent": 50, "warmup_ms": 0.2, "min_ms": 2},
}


@dataclass(frozen=True)
class Ended:
    """How one command ended: exit code, the stages that had started, what was said last, seconds."""

    exit_code: int
    started: tuple[str, ...]
    said: str
    seconds: float

    @property
    def kind(self) -> str:
        """``done``, ``refused`` before training, ``refused late``, or ``crashed``."""
        if self.exit_code == 0:
            return "done"
        if not 2 <= self.exit_code <= 9:
            return "crashed"
        return "refused late" if TRAINING & set(self.started) else "refused"


def run(full: bool) -> Outcome:
    """Try all spaces; those with even numbers go the whole way."""
    found: list[dict[str, Any]] = []
    for seed in range(SPACES[full]):
        trainable = seed % 2 == 0
        most_macs = TRAINABLE_MACS if trainable else MEASURABLE_MACS
        space = random_space(seed, trainable=trainable, most_macs=most_macs)
        with tempfile.TemporaryDirectory(prefix="nasflow-random-space-") as folder:
            entry = {
                "seed": seed,
                "layers": len(space.layers()),
                "resolution": space.resolution,
                "classes": space.classes,
                "most_macs": largest_macs(space),
                **(whole_way(space, Path(folder)) if trainable else without_images(space, Path(folder))),
            }
        if entry["outcome"] not in ("verified", "measured and converted", "refused"):
            entry["space"] = space.model_dump(mode="json")
        found.append(entry)
        said = f" ({entry['said']})" if entry["said"] else ""
        say(
            f"random_spaces: {seed}: {entry['layers']} layers, {space.resolution} pixels, {space.classes} "
            f"classes: {entry['outcome']} in {entry['seconds']:.0f} s{said}"
        )
    outcomes = Counter(entry["outcome"] for entry in found)
    refusals = [e["refused_after_seconds"] for e in found if e["refused_after_seconds"] is not None]
    figures = {"spaces": len(found), "outcomes": dict(outcomes), "each": found}
    return Outcome(
        figures,
        [
            at_most("crashed", outcomes["crashed"], 0),
            at_most("refused_after_training_began", outcomes["refused late"], 0),
            at_most("slowest_refusal_seconds", max(refusals, default=0.0), REFUSAL_SECONDS),
        ],
    )


def whole_way(space: SearchSpace, folder: Path) -> dict[str, Any]:
    """From ``profile`` to ``verify``, for a target in the middle of what the space offers."""
    project(space, folder)
    measured = nasflow(folder, "latency")
    if measured.kind != "done":
        return _entry(measured.kind, measured)
    fastest, slowest = _feasible_ms(folder)
    # In the middle by ratio; a space whose networks are all as fast as one another gets its slowest.
    target = f"target.ms={max(math.sqrt(fastest * slowest), fastest * 1.001)}"
    ended = nasflow(folder, "run", "--set", target)
    outcome = "verified" if ended.kind == "done" else ended.kind
    return _entry(outcome, ended, measured.seconds)


def without_images(space: SearchSpace, folder: Path) -> dict[str, Any]:
    """A space for other images: a whole run is refused at once; measuring and converting it works."""
    project(space, folder)
    whole = nasflow(folder, "run")
    if whole.kind != "refused" or whole.started:
        return _entry("refused late" if whole.kind == "refused" else "crashed", whole)
    ended = nasflow(folder, "precheck")
    return _entry("measured and converted" if ended.kind == "done" else ended.kind, ended, whole.seconds)


def project(space: SearchSpace, folder: Path) -> None:
    """A folder with the space and small settings."""
    (folder / "space.yaml").write_text(yaml.safe_dump(space.model_dump(mode="json")), encoding="utf-8")
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(dict(SETTINGS)), encoding="utf-8")


def nasflow(folder: Path, *words: str) -> Ended:
    """The real command line in a process of its own."""
    command = [sys.executable, "-P", "-m", "nasflow", *words, "--json"]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Ended(70, (), f"was not done after {COMMAND_SECONDS} s", time.monotonic() - begun)
    lines = done.stderr.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    started = tuple(event["stage"] for event in events if event["event"] == "stage_started")
    words_said = [line for line in lines if not line.startswith("{")]
    said = next((line for line in words_said if line.startswith("error: ")), " ".join(words_said[-2:]))
    return Ended(done.returncode, started, said[:500], time.monotonic() - begun)


def _feasible_ms(folder: Path) -> tuple[float, float]:
    store = Store(folder / "artifacts", lambda _event: None)
    record = store.latest("latency")
    assert record is not None, "the stage has just ended well"
    return store.document(record, LatencyModel).feasible_ms


def _entry(outcome: str, last: Ended, before_seconds: float = 0.0) -> dict[str, Any]:
    seconds = before_seconds + last.seconds
    return {
        "outcome": outcome,
        "exit_code": last.exit_code,
        "said": last.said,
        "seconds": round(seconds, 1),
        "refused_after_seconds": round(seconds, 1) if outcome == "refused" else None,
    }


if __name__ == "__main__":
    sys.exit(main("random_spaces", run))
