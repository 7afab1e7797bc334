"""Smaller candidates from a full network's weights: what is cut, what is fitted, what stays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy_pretrained import SPACE, images, toy_weights, weights_of
from torch.nn import functional

from nasflow.base.errors import UsageError
from stages.nn.blocks import MBConv, build_block, initialise
from stages.nn.channel_choice import ChannelOrder, eliminated
from stages.nn.derive import (
    Parts,
    channel_importance,
    check_derivable,
    convolution,
    cut,
    most_important,
    norm,
)
from stages.nn.pretrained import full_network
from stages.nn.refit import Sample, difference, refit_block
from stages.nn.start import PretrainedStart
from stages.nn.supernet import Supernet
from stages.space.block_spec import BlockSpec
from stages.space.search_space import SearchSpace

FULL = BlockSpec(kind="mbconv", kernel=5, expansion=4, in_channels=8, out_channels=8, resolution=8)


def block(seed: int = 0, **changes: object) -> MBConv:
    """A block with weights and BN numbers of no special form, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_block(FULL.model_copy(update=changes))
        initialise(module)
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_()
                assert part.running_mean is not None and part.running_var is not None
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
    assert isinstance(module, MBConv)
    return module.eval()


def inputs(seed: int = 0, count: int = 30, channels: int = 8, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, 4, 4, generator=generator)
    return functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)


def start(space: SearchSpace = SPACE) -> PretrainedStart:
    return PretrainedStart(space, toy_weights() if space is SPACE else weights_of(space), images(space))


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("resolution", [8, 9])
def test_a_cropped_kernel_is_the_centre_at_the_place_where_it_was(stride: int, resolution: int) -> None:
    """A full kernel of zeros around its centre computes what the cropped one does."""
    full = block(stride=stride, resolution=resolution)
    kernel = convolution(Parts.of(full).depthwise).weight.data
    kernel[:, :, [0, -1]] = 0
    kernel[:, :, :, [0, -1]] = 0
    small = block(1, kernel=3, stride=stride, resolution=resolution)
    cut(full, small, torch.arange(32))
    assert torch.equal(convolution(Parts.of(small).depthwise).weight, kernel[:, :, 1:-1, 1:-1])
    x_NCHW = inputs(side=resolution)
    assert close(small(x_NCHW), full(x_NCHW))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_kernel_in_a_larger_one_computes_the_same(stride: int) -> None:
    full, large = block(kernel=3, stride=stride), block(1, kernel=7, stride=stride)
    cut(full, large, torch.arange(32))
    assert close(large(inputs()), full(inputs()))


def test_chosen_channels_keep_their_weights_in_all_three_convolutions() -> None:
    full, small = block(), block(1, expansion=2)
    channels = torch.tensor([1, 2, 5, 6, 8, 9, 11, 12, 13, 17, 20, 21, 25, 28, 30, 31])
    cut(full, small, channels)
    whole, part = Parts.of(full), Parts.of(small)
    assert whole.expand is not None and part.expand is not None
    assert torch.equal(convolution(part.expand).weight, convolution(whole.expand).weight[channels])
    assert torch.equal(norm(part.expand).bias, norm(whole.expand).bias[channels])
    assert torch.equal(convolution(part.depthwise).weight, convolution(whole.depthwise).weight[channels])
    assert torch.equal(convolution(part.project).weight, convolution(whole.project).weight[:, channels])
    assert torch.equal(norm(part.project).weight, norm(whole.project).weight)


def test_channels_that_contribute_nothing_are_the_least_important() -> None:
    full = block()
    dead, constant = [3, 4, 10], [7, 19]
    parts = Parts.of(full)
    convolution(parts.project).weight.data[:, dead] = 0
    norm(parts.depthwise).bias.data[constant] = -50.0  # ReLU6 lets nothing through
    importance = channel_importance(full)
    kept = most_important(importance, 27)
    assert sorted(set(range(32)) - set(kept.tolist())) == sorted(dead + constant)
    assert set(dead) <= set(ChannelOrder.of(full, [inputs()]).removed_first[:8].tolist())


def test_elimination_removes_first_what_others_can_replace() -> None:
    """Input 0 is the sum of inputs 1 and 2, and has the largest weight: importance alone would keep it."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(60, 900, generator=generator, dtype=torch.float64)
    samples[0] = samples[1] + samples[2]
    weight = torch.ones(3, 60, dtype=torch.float64)
    weight[:, 0] = 2.0
    order = eliminated(samples @ samples.T / 900, weight).tolist()
    assert sorted(order) == list(range(60))
    assert order[0] in (0, 1, 2)


def test_of_inputs_that_are_equal_one_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(60, 900, generator=generator, dtype=torch.float64)
    samples[20:] = samples[:20].repeat(2, 1)  # each is there three times
    weight = torch.randn(5, 60, generator=generator, dtype=torch.float64).abs() + 0.5
    order = eliminated(samples @ samples.T / 900, weight)
    assert sorted((order[40:] % 20).tolist()) == list(range(20))


def test_nothing_changes_where_everything_is_kept() -> None:
    began = start()
    network = began.network(SPACE.network(SPACE.largest_path()))
    (x_NCHW, *_) = images(SPACE, seed=7)
    with torch.no_grad():
        assert torch.equal(network(x_NCHW), began.full(x_NCHW))


def test_a_supernets_largest_path_is_the_full_network() -> None:
    began, supernet = start(), Supernet(SPACE).eval()
    began.fill(supernet)
    (x_NCHW, *_) = images(SPACE, seed=7)
    with torch.no_grad():
        assert close(supernet(x_NCHW, SPACE.largest_path()), began.full(x_NCHW))


@pytest.mark.parametrize("changes", [{"kernel": 3}, {"expansion": 2}, {"kernel": 3, "expansion": 2}])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_is_nearer_to_the_full_block_than_the_cut_and_on_new_images_too(
    changes: dict[str, object], seed: int
) -> None:
    full, small = block(seed), block(9, **changes)
    hidden = convolution(Parts.of(small).depthwise).in_channels
    channels = most_important(channel_importance(full), hidden)
    cut(full, small, channels)
    x_NCHW, new_NCHW = inputs(seed, count=60), inputs(seed + 50)
    with torch.no_grad():
        before = [difference([small(x)], [full(x)]) for x in (x_NCHW, new_NCHW)]
        error = refit_block(small, full, channels, [Sample(x_NCHW, x_NCHW, full(x_NCHW))])
        after = [difference([small(x)], [full(x)]) for x in (x_NCHW, new_NCHW)]
    assert (error.cut, error.fitted) == pytest.approx((before[0], after[0]))
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.8 * before[1]


def test_a_fit_in_several_batches_is_that_of_one() -> None:
    full, x_NCHW = block(), inputs(count=40)
    fitted = []
    for size in (40, 8):
        small = block(9, kernel=3, expansion=2)
        channels = most_important(channel_importance(full), 16)
        cut(full, small, channels)
        with torch.no_grad():
            batches = [Sample(x, x, full(x)) for x in torch.split(x_NCHW, size)]
            refit_block(small, full, channels, batches)
            fitted.append(small(x_NCHW))
    assert torch.allclose(fitted[0], fitted[1], rtol=1e-3, atol=1e-3)


def test_bn_statistics_after_a_fit_are_those_of_the_images() -> None:
    """So that training, where BN uses the batch's own, starts from the function that was fitted."""
    full, small = block(), block(9, kernel=3, expansion=2)
    channels = most_important(channel_importance(full), 16)
    cut(full, small, channels)
    x_NCHW = inputs(count=60)
    with torch.no_grad():
        refit_block(small, full, channels, [Sample(x_NCHW, x_NCHW, full(x_NCHW))])
        evaluated, trained = small(x_NCHW), small.train()(x_NCHW)
    assert difference([trained], [evaluated]) < 1e-3


def test_later_blocks_make_up_for_a_skipped_layer() -> None:
    """Fitted on its own path's activations, a network ends nearer to the full one."""
    began = start()
    path = (0, 1, 2, 3, 3)
    network = began.network(SPACE.network(path))
    supernet = Supernet(SPACE).eval()
    began.fill(supernet)
    independent = supernet.extract(path).eval()
    batches = images(SPACE)
    with torch.no_grad():
        ends = [
            [torch.nn.Sequential(*net.blocks[:-1])(x_NCHW) for x_NCHW in batches]
            for net in (began.full, network, independent)
        ]
    assert difference(ends[1], ends[0]) < 0.95 * difference(ends[2], ends[0])


def test_block_errors_are_zero_for_the_full_block_and_larger_for_less() -> None:
    errors = start().fill(Supernet(SPACE))
    assert [len(row) for row in errors] == [len(layer.blocks) for layer in SPACE.layers()]
    for row, largest in zip(errors, SPACE.largest_path(), strict=True):
        assert row[largest] == 0.0
        assert all(value > 0 for choice, value in enumerate(row) if choice != largest)
    assert errors[4][0] > errors[4][1] and errors[4][0] > errors[4][2]


def test_the_same_images_give_the_same_bits_and_nothing_random_is_used_up() -> None:
    net = SPACE.network((0, 0, 0, 0, 0))
    supernet = Supernet(SPACE)
    before = torch.get_rng_state()
    states = [start().network(net).state_dict() for _ in range(2)]
    start().fill(supernet)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_other_classes_get_a_fresh_dense_layer_and_nothing_else() -> None:
    other = SPACE.model_copy(update={"classes": 7})
    network, same = (full_network(space, toy_weights()) for space in (other, SPACE))
    stored = toy_weights().state
    assert all(torch.equal(tensor, stored[name]) for name, tensor in same.state_dict().items())
    states = network.state_dict()
    fresh = {name for name in stored if states[name].shape != stored[name].shape}
    assert all(torch.equal(states[name], stored[name]) for name in stored if name not in fresh)
    assert fresh == {f"blocks.{len(same.blocks) - 1}.dense.{part}" for part in ("weight", "bias")}
    assert 0.005 < float(states[f"blocks.{len(same.blocks) - 1}.dense.weight"].std()) < 0.02


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "fused"},
        {"squeeze_excite": True},
        {"activation": "hswish"},
        {"expansion": 6},
        {"expansion": 1},
    ],
)
def test_a_candidate_that_cannot_be_cut_out_is_refused_by_name(changes: dict[str, object]) -> None:
    other = FULL.model_copy(update=changes)
    with pytest.raises(UsageError, match=f"candidate {other.key} cannot start from .* {FULL.key}"):
        check_derivable(other, FULL)


def test_a_start_needs_images_and_candidates_that_can_be_cut_out() -> None:
    with pytest.raises(UsageError, match="no image was given"):
        PretrainedStart(SPACE, toy_weights(), [])
    hswish = SPACE.candidates[0].model_copy(update={"activation": "hswish"})
    other = SPACE.model_copy(update={"candidates": (*SPACE.candidates, hswish)})
    with pytest.raises(UsageError, match=r"candidate mbconv_k3_e2_hs.* cannot start"):
        PretrainedStart(other, toy_weights(), images(SPACE))


@settings(max_examples=8)
@given(data=st.data(), kernels=st.sets(st.sampled_from([3, 5]), min_size=1), top=st.integers(2, 4))
def test_every_path_of_a_space_starts_near_the_full_network(
    data: st.DataObject, kernels: set[int], top: int
) -> None:
    candidates = [{"kernel": k, "expansion": e} for k in sorted(kernels) for e in (2, top + 1)]
    space = SearchSpace.model_validate(
        SPACE.model_dump() | {"candidates": candidates, "resolution": data.draw(st.sampled_from([12, 16]))}
    )
    began = start(space)
    path = [data.draw(st.integers(0, len(layer.blocks) - 1)) for layer in space.layers()]
    network, errors = began.fitted(space.network(path))
    assert all(0 <= error.fitted <= error.cut * (1 + 1e-6) for layer, error in errors.items() if layer >= 0)
    assert all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
    if path == list(space.largest_path()):
        assert errors == {}
