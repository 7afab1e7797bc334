"""Changing one key makes exactly the stages stale that it concerns."""

from __future__ import annotations

import json

import pytest
from integration.conftest import Finished

from nasflow.cli.app import main
from nasflow.cli.request import STAGE_NAMES

MEASURED_ON = "latency precheck search prune finetune convert verify"
LEARNED_FROM = "search prune finetune baseline convert verify"


@pytest.mark.parametrize(
    ("key", "stale"),
    [
        ("seed=1", ""),
        ("seed=2", " ".join(STAGE_NAMES)),
        ("artifacts=elsewhere", " ".join(STAGE_NAMES)),
        ("data.path=moved", ""),
        ("data.split_seed=5", LEARNED_FROM),
        ("data.train_images=1400", LEARNED_FROM),
        ("space.width_multiplier=1.5", f"profile {MEASURED_ON}"),
        ("space.resolution=64", " ".join(STAGE_NAMES)),
        ("runtime.threads=2", f"profile {MEASURED_ON}"),
        ("measurement.min_ms=3", f"profile {MEASURED_ON}"),
        ("profile.rounds=4", f"profile {MEASURED_ON}"),
        ("latency.rounds=4", MEASURED_ON),
        ("precheck.rounds=7", "precheck"),
        ("search.epochs=2", "search prune finetune convert verify"),
        ("target.ratio=0.13", "search prune finetune convert verify"),
        ("target.ms=0.3", "search prune finetune convert verify"),
        ("target.further=[{ratio: 0.2}]", "search prune finetune convert verify"),
        ("target.front=3", "search prune finetune convert verify"),
        ("target.minimum_share=0.6", "search prune finetune convert verify"),
        ("target.pick_ms=0.2", "prune finetune convert verify"),
        ("prune.candidates=3", "prune finetune convert verify"),
        ("prune.random_networks=2", "prune finetune convert verify"),
        ("training.epochs=3", "finetune baseline convert verify"),
        ("training.start=fresh", "finetune convert verify"),
        ("baseline.widths=[0.35, 0.5]", "baseline convert verify"),
        ("convert.output=logits", f"profile {MEASURED_ON}"),
        ("convert.images=33", "convert verify"),
        ("convert.precisions=[int8]", "convert verify"),
        ("convert.max_int8_drop=2", "convert verify"),
        ("runtime.precision=int8", f"profile {MEASURED_ON}"),
        ("convert.max_relative_diff=0.002", "precheck convert verify"),
        ("verify.rounds=4", "verify"),
        ("verify.max_ratio=0.9", "verify"),
        ("report.images=false", ""),
    ],
)
def test_one_key_makes_exactly_these_stages_stale(
    finished: Finished,
    key: str,
    stale: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished.project.path)
    assert main(["status", "--set", key, "--json"]) == 0  # also of what a run would refuse
    stages = json.loads(capfd.readouterr().out)["stages"]
    assert [stage["name"] for stage in stages if not stage["fresh"]] == stale.split()
    blamed = next((stage["why"] for stage in stages if not stage["fresh"]), "")
    if stale and not key.startswith("artifacts"):
        section = key.partition("=")[0].partition(".")[0].replace("measurement", "profile")
        assert f"setting `{section}" in blamed, "the reason names the key"
