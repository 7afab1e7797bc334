"""What cannot work is refused with its settings alone: before a device is asked or anything is trained."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted_device import ScriptedDevice
from support.toy_search import SPACE

from nasflow.assemble import build_pipeline
from nasflow.base.errors import UsageError
from nasflow.config import PipelineConfig
from stages.space.search_space import Candidate, SearchSpace, StageSpec

SMALL = """
name: small
resolution: 32
classes: 10
stem: {width: 8}
stages: [{width: 8, layers: 3, stride: 2}]
head_width: 16
candidates: [{kernel: 3, expansion: 1}, {kernel: 5, expansion: 1}]
"""
"""2 * (1 + 2 + 4) networks: of two skips it does not matter which comes first."""


@pytest.mark.parametrize(
    ("settings", "until", "message", "hint"),
    [
        (
            {"space": {"resolution": 64}},
            "search",
            "space fashion is for images of 64 pixels, 3 channels, 10 classes; fashion_mnist has 32",
            "It can be profiled, but not searched",
        ),
        (
            {"space": {"name": "proxyless_mobile"}},
            "baseline",
            "space proxyless_mobile is for images of 224 pixels",
            "It can be profiled, but not searched",
        ),
        (
            {"space": {"name": "small.yaml"}},
            "latency",
            "space small offers 14 different networks; the latency model wants 30",
            "latency.calibration_networks",
        ),
        (
            {
                "space": {"name": "small.yaml"},
                "latency": {"calibration_networks": 4, "held_out_networks": 10},
                "prune": {"random_networks": 14},
            },
            "prune",
            "the space holds 13 other networks .* prune.random_networks asks for 14",
            "Lower prune.random_networks",
        ),
        (
            {"data": {"train_images": 640}, "search": {"batch_size": 64, "architecture_every": 11}},
            "search",
            "search.architecture_every is 11, but an epoch has only 10 steps",
            "Lower it",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_the_start_and_not_where_it_hurts(
    settings: dict[str, object], until: str, message: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    device = ScriptedDevice({})
    config = PipelineConfig.model_validate(settings)
    pipeline = build_pipeline(config, tmp_path, lambda _: None, device=device)
    with pytest.raises(UsageError, match=message) as caught:
        pipeline.check(until)
    assert hint in caught.value.hint
    with pytest.raises(UsageError, match=message):
        pipeline.check()
    pipeline.check("profile")  # what does not need the stage is not kept from running


def test_settings_at_the_edge_are_not_refused(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    config = PipelineConfig.model_validate(
        {
            "space": {"name": "small.yaml"},
            "data": {"train_images": 640},
            "latency": {"calibration_networks": 4, "held_out_networks": 10},
            "search": {"batch_size": 64, "architecture_every": 10},
            "prune": {"random_networks": 13},
        }
    )
    build_pipeline(config, tmp_path, lambda _: None, device=ScriptedDevice({})).check()


@given(
    stages=st.lists(
        st.builds(
            StageSpec,
            width=st.sampled_from([8, 16]),
            layers=st.integers(1, 3),
            fixed=st.none() | st.sampled_from([Candidate(kernel=3, expansion=1)]),
        ),
        min_size=1,
        max_size=3,
    ),
    candidates=st.lists(
        st.sampled_from([Candidate(kernel=k, expansion=1) for k in (3, 5)]),
        min_size=1,
        max_size=2,
        unique=True,
    ),
    skip=st.booleans(),
)
@settings(max_examples=100)
def test_different_networks_are_counted_as_if_each_were_built(
    stages: list[StageSpec], candidates: list[Candidate], skip: bool
) -> None:
    space = SearchSpace.model_validate(
        SPACE.model_dump() | {"stages": stages, "candidates": candidates, "skip": skip}
    )
    layers = space.layers()
    networks = {
        tuple(
            block.key
            for layer, choice in zip(layers, path, strict=True)
            if (block := layer.blocks[choice]) is not None
        )
        for path in product(*(range(len(layer.blocks)) for layer in layers))
    }
    assert space.different_networks == len(networks) <= space.size
