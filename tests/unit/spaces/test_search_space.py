"""What follows from a search space: its layers, its networks, and MobileNetV2 on equal terms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.toy_search import DATA, SPACE

from nasflow.base.errors import UsageError
from stages.baseline import Baseline, BaselineConfig
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import round_channels
from stages.space.mobilenet_v2 import PUBLISHED_STRIDES, fit_strides, mobilenet_v2
from stages.space.search_space import Candidate, NetConfig, SearchSpace, StageSpec, StemSpec
from stages.training.recipe import TrainingConfig

STRIDE = st.sampled_from([1, 2])


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Any small space whose resolution fits its strides."""
    stages = draw(
        st.lists(
            st.builds(
                StageSpec,
                width=st.integers(1, 20),
                layers=st.integers(1, 3),
                stride=STRIDE,
                fixed=st.none() | st.just(Candidate(kernel=3, expansion=1)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    stem = StemSpec(width=draw(st.integers(1, 20)), stride=draw(STRIDE))
    kinds = st.builds(Candidate, kernel=st.sampled_from([1, 3, 5]), expansion=st.integers(1, 4))
    return SearchSpace(
        name="drawn",
        resolution=draw(st.sampled_from([32, 64])),
        classes=draw(st.integers(2, 5)),
        stem=stem,
        stages=tuple(stages),
        head_width=draw(st.integers(1, 40)),
        candidates=tuple(draw(st.lists(kinds, min_size=1, max_size=3, unique=True))),
        skip=draw(st.booleans()),
    )


@given(space=spaces(), data=st.data())
@settings(max_examples=80)
def test_every_path_of_any_space_is_a_network_of_known_blocks(
    space: SearchSpace, data: st.DataObject
) -> None:
    layers = space.layers()
    path = [data.draw(st.integers(0, len(layer.blocks) - 1)) for layer in layers]
    net = space.network(path)
    keys = {block.key for block in space.distinct_blocks()}
    assert {block.key for block in net.blocks} <= keys
    kept = [index for index, choice in enumerate(path) if layers[index].blocks[choice] is not None]
    assert [index for index in net.layers if index >= 0] == kept
    assert NetConfig.model_validate_json(net.model_dump_json()) == net
    assert space.size == math.prod(len(layer.blocks) for layer in layers)
    reduction = math.prod(space.stride_plan)
    assert net.blocks[-1].resolution * reduction == space.resolution


@given(space=spaces())
@settings(max_examples=40)
def test_only_a_layer_that_keeps_width_and_size_can_be_skipped(space: SearchSpace) -> None:
    for layer in space.layers():
        block = layer.blocks[0]
        assert block is not None
        skippable = len(layer.blocks) > 1 and layer.blocks[-1] is None
        assert not (skippable and not block.residual)
        assert None not in layer.blocks[:-1]
        if not space.skip:
            assert not skippable


def test_the_papers_space_is_the_papers() -> None:
    """ProxylessNAS, arXiv 1812.00332, section 4.1: its stem, widths, strides, depths, candidates, head."""
    space = load_space(SpaceConfig(name="proxyless_mobile"))
    stem, head, classifier = space.fixed_blocks()
    assert (space.resolution, stem.kernel, stem.stride, stem.out_channels) == (224, 3, 2, 32)
    assert (head.in_channels, head.out_channels, classifier.out_channels) == (320, 1280, 1000)
    first, *searched = space.layers()
    assert [b and (b.kind, b.kernel, b.expansion, b.out_channels, b.stride) for b in first.blocks] == [
        ("mbconv", 3, 1, 16, 1)
    ]
    assert len(searched) == 21
    shape = [next((b.out_channels, b.stride) for b in layer.blocks if b is not None) for layer in searched]
    assert shape == [
        *[(24, 2), *[(24, 1)] * 3],
        *[(40, 2), *[(40, 1)] * 3],
        *[(80, 2), *[(80, 1)] * 3],
        *[(96, 1)] * 4,
        *[(192, 2), *[(192, 1)] * 3],
        (320, 1),
    ]
    ways = {("mbconv", kernel, expansion) for kernel in (3, 5, 7) for expansion in (3, 6)}
    for layer in searched:
        assert {(b.kind, b.kernel, b.expansion) for b in layer.blocks if b is not None} == ways
    skips = [None in layer.blocks for layer in searched]
    assert skips == [*[False, True, True, True] * 5, False]
    assert space.size == 6**6 * 7**15
    assert len({b for layer in searched for b in layer.blocks if b is not None}) == 66
    assert len(space.distinct_blocks()) == 70


def test_impossible_choices_are_told() -> None:
    with pytest.raises(UsageError, match="2 choices were given for the 4 layers of space toy"):
        SPACE.network([0, 0])
    with pytest.raises(UsageError, match="choice 3 in layer 1 of space toy: it has candidates 0 to 2"):
        SPACE.network([0, 3, 0, 0])
    with pytest.raises(UsageError, match="choice -1"):
        SPACE.network([0, -1, 0, 0])


def test_blocks_that_do_not_follow_on_each_other_are_no_network() -> None:
    net = SPACE.network([0, 0, 0, 0])
    for blocks in (net.blocks[1:], net.blocks[:-1], net.blocks[:1] + net.blocks[2:]):
        with pytest.raises(ValidationError):
            NetConfig(resolution=32, classes=10, blocks=blocks)


@given(strides=st.lists(STRIDE, min_size=2, max_size=14))
@settings(max_examples=200)
def test_mobilenet_v2_takes_over_any_stride_plan_with_the_same_total(strides: list[int]) -> None:
    if strides[1:].count(2) > 7:
        with pytest.raises(UsageError, match="stages of stride 2; MobileNetV2 has 7"):
            fit_strides(strides)
        return
    fitted = fit_strides(strides)
    assert len(fitted) == 8
    assert fitted[0] == strides[0]
    assert math.prod(fitted) == math.prod(strides)
    if len(strides) == 8:
        assert fitted == tuple(strides)


def test_a_reduction_early_in_the_space_is_early_in_mobilenet_v2() -> None:
    assert fit_strides((2, 2, 1, 1, 1)) == (2, 2, 1, 1, 1, 1, 1, 1)
    assert fit_strides((2, 1, 1, 1, 2)) == (2, 1, 1, 1, 1, 1, 2, 1)
    assert fit_strides((1, 1, 2, 2)) == (1, 1, 1, 2, 1, 2, 1, 1)


@pytest.mark.parametrize("name", shipped_spaces())
def test_the_baseline_has_the_spaces_resolution_at_its_end(name: str) -> None:
    space = load_space(SpaceConfig(name=name))
    baseline = Baseline(config=BaselineConfig(), recipe=TrainingConfig(), space=space, data=DATA, seed=0)
    end = space.network([0] * len(space.layers())).blocks[-1].resolution
    for _, role, net in baseline.networks():
        strides = math.prod(net.strides)
        if role == "baseline":
            assert net.blocks[-1].resolution == end
            assert strides == math.prod(space.stride_plan)
        else:
            assert strides == math.prod(PUBLISHED_STRIDES) == 32
    assert len({name for name, _, _ in baseline.networks()}) == len(baseline.networks())


@pytest.mark.parametrize("strides", [(2, 1, 2), (2, 1, 2, 2, 2, 1, 2, 3), (0,) * 8])
def test_an_impossible_stride_plan_is_told(strides: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="a stem and seven stages"):
        mobilenet_v2(resolution=32, classes=10, strides=strides)


@pytest.mark.parametrize("widths", [(0.0,), (-1.0,), (9.0,), (0.5, 0.5), ()])
def test_impossible_widths_of_baselines_are_refused(widths: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        BaselineConfig(widths=widths)


@given(st.floats(1, 2000))
@settings(max_examples=200)
def test_channels_are_rounded_to_eights_and_never_more_than_a_tenth_down(channels: float) -> None:
    rounded = round_channels(channels)
    assert rounded % 8 == 0
    assert 0.9 * channels <= rounded
    assert rounded == 8 or rounded <= channels + 8
