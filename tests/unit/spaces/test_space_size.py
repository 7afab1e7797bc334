"""Spaces of which some model cannot be built are refused before anything is measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.latency_spaces import TINY
from support.simulated_device import SimulatedDevice

from android_bench.device import RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.cli.app import main
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.search_space import Candidate, SearchSpace
from stages.space.size import MOST_BYTES, check_size

HUGE = """\
name: huge
resolution: 32
classes: 10
stem: {width: 8}
stages:
  - {width: 16384, layers: 3, stride: 2}
head_width: 16
candidates: [{kind: fused, kernel: 11, expansion: 16}, {kind: fused, kernel: 9, expansion: 16}]
"""


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"], ["profile"], ["search", "--dry-run"]])
def test_a_block_that_cannot_be_built_is_told_before_anything_is_measured(
    tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "pipeline.yaml"
    config.write_text("space: {name: huge.yaml}\n", encoding="utf-8")
    (tmp_path / "huge.yaml").write_text(HUGE, encoding="utf-8")
    code = main([*words, "--config", str(config)])
    told = " ".join(capfd.readouterr().err.split())
    assert code == 2
    assert re.search(r"error: block fused_k11_e16_s1_16384-16384_r\d+ of space huge cannot be built", told)
    assert re.search(r"it has \d{13} bytes \([\d.e+]+ GiB\) of weights", told)
    assert "smaller expansion" in told
    assert not list(tmp_path.glob("artifacts/records/*"))


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_spaces_are_far_below_the_bound(name: str) -> None:
    check_size(load_space(SpaceConfig(name=name)))
    check_size(load_space(SpaceConfig(name=name, width_multiplier=4.0)))


def changed(**changes: Any) -> SearchSpace:
    return SearchSpace.model_validate({**TINY.model_dump(), **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 10**9}, "block classifier_16-1000000000_r4 .* of weights"),
        ({"input_channels": 10**9}, "block stem_k3_s2_1000000000-8_r16 .* of weights"),
        (
            {"resolution": 1024, "stem": {"width": 16384, "kernel": 1}},
            "block stem_k1_s2_3-16384_r1024 .* of values that it computes for one image",
        ),
    ],
)
def test_every_part_of_a_space_is_looked_at(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        check_size(changed(**changes))
    assert refused.value.hint


def test_a_network_of_many_large_blocks_is_refused_by_its_heaviest() -> None:
    space = changed(
        candidates=(Candidate(kernel=3, expansion=6).model_dump(),),
        stages=[{"width": 4096, "layers": 20}],
    )
    assert max(4 * block.parameters for block in space.distinct_blocks()) <= MOST_BYTES
    with pytest.raises(UsageError, match="the largest network of space tiny cannot be built") as refused:
        check_size(space)
    assert "are in block mbconv_k3_e6_s1_4096-4096_r8" in refused.value.hint
    with pytest.raises(UsageError, match="the largest network"):
        ProfileOps(ProfileConfig(), space, RuntimeOptions(), 0, SimulatedDevice()).check()
