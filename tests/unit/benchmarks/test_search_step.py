"""The meters against tensors of known size, and the benchmark of the search's steps at a tiny size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.toy_search import SPACE

from benchmarks._memory import cuda_peak, resident_peak, traced_peak
from benchmarks._search_subjects import (
    SIZES,
    AllPathsAtOnce,
    Alone,
    Searching,
    Setting,
    WeightedSum,
    common_pairs,
    space_of,
)
from benchmarks.search_step import measure, steps_of, summary
from stages.nn.supernet import Supernet

MEGABYTE = 1 << 20
CPU = torch.device("cpu")
TINY = Setting(SPACE, batch_size=4, device=CPU, bfloat16=False, draws=1, rounds=2)
BARS = {
    "weight_step_memory_over_alone": 1.15,
    "two_path_step_memory_over_alone": 1.15,
    "architecture_step_memory_over_alone": 1.15,
    "weight_step_memory_largest_over_smallest": 1.05,
    "two_path_step_memory_largest_over_smallest": 1.05,
    "architecture_step_memory_largest_over_smallest": 1.05,
    "weight_step_time_over_alone": 1.05,
    "two_path_step_time_over_alone": 2.0,
    "architecture_step_time_over_alone": 2.0,
}


def megabytes(number: int, device: torch.device = CPU) -> torch.Tensor:
    return torch.ones(number * MEGABYTE, dtype=torch.uint8, device=device)


def test_the_traced_peak_is_what_lived_at_once() -> None:
    def step() -> None:
        first = megabytes(3)
        second = megabytes(2)
        del first
        third = megabytes(2)
        del second, third
        assert megabytes(1).numel()

    assert traced_peak(step) == 5 * MEGABYTE


def test_an_operators_own_temporary_memory_counts() -> None:
    numbers = megabytes(1)
    # To add up bytes, PyTorch makes them int64 first.
    assert traced_peak(lambda: numbers.sum()) == pytest.approx(8 * MEGABYTE, abs=1024)


def test_what_was_there_before_a_step_does_not_count_even_if_the_step_frees_it() -> None:
    kept = [megabytes(8)]

    def step() -> None:
        kept.clear()
        kept.append(megabytes(4))

    assert traced_peak(step) == 4 * MEGABYTE


def test_what_is_learned_does_not_count_from_its_first_moment_on() -> None:
    kept: list[torch.Tensor] = []

    def step() -> None:
        kept.append(megabytes(4))
        assert megabytes(3).numel()
        kept.append(megabytes(2)[:MEGABYTE])

    assert traced_peak(step, lambda: kept) == 3 * MEGABYTE
    kept.clear()
    assert traced_peak(step, lambda: kept[:1]) == 3 * MEGABYTE
    kept.clear()
    assert traced_peak(step) == 7 * MEGABYTE


def test_the_gradient_that_a_backward_pass_makes_is_told_from_activations() -> None:
    weight = torch.nn.Parameter(torch.ones(256, 1024))

    def step() -> None:
        weight.grad = None
        (weight * 2.0).square().sum().backward()  # type: ignore[no-untyped-call]

    def learned() -> list[torch.Tensor]:
        return [weight, *([weight.grad] if weight.grad is not None else [])]

    assert traced_peak(step) - traced_peak(step, learned) in (0, MEGABYTE)
    assert traced_peak(step, learned) >= 2 * MEGABYTE


def test_resident_memory_sees_what_was_touched_for_a_moment() -> None:
    if not Path("/proc/self/clear_refs").exists():
        assert resident_peak(lambda: None) is None
        return

    def step() -> None:
        assert megabytes(96).numel()

    step()
    assert resident_peak(step) == pytest.approx(96 * MEGABYTE, rel=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpus_peak_is_what_lived_at_once_less_what_stays() -> None:
    device = torch.device("cuda", 0)
    kept: list[torch.Tensor] = []

    def step() -> None:
        kept.append(megabytes(4, device))
        first, second = megabytes(16, device), megabytes(16, device)
        del first, second

    assert cuda_peak(step, device) == 32 * MEGABYTE


@pytest.mark.parametrize("size", SIZES)
def test_every_searched_layer_of_a_size_has_so_many_candidates_and_the_same_first_two(size: int) -> None:
    space, pairs = space_of(SPACE, size), common_pairs(space_of(SPACE, size))
    assert [len(layer.blocks) for layer in space.layers()] == [1, size, size, size]
    assert pairs == [(0, 0), (1, 0), (0, 1), (1, 0)]
    first = space_of(SPACE, SIZES[0])
    for index, (active, _) in enumerate(pairs):
        assert space.layers()[index].blocks[active] == first.layers()[index].blocks[active]
    assert len(set(space.candidates)) == size


def test_the_supernet_of_all_paths_at_once_sums_them_by_their_probabilities() -> None:
    torch.manual_seed(0)
    supernet = Supernet(SPACE).eval()
    both = WeightedSum(supernet)
    x_NCHW, _ = TINY.images(0)
    with torch.no_grad():
        x_in = supernet.layers[0](supernet.stem(x_NCHW), 0)
        layer = supernet.layers[1]
        expected = sum(p * layer(x_in, i) for i, p in enumerate(torch.tensor([0.2, 0.3, 0.5])))
        both.alphas[1].copy_(torch.tensor([0.2, 0.3, 0.5]).log())
        for index in (2, 3):
            both.alphas[index][0] = 100.0
            expected = supernet.layers[index](expected, 0)
        expected = supernet.classifier(supernet.head(expected))
        torch.testing.assert_close(both(x_NCHW), expected)


def test_the_supernet_of_all_paths_learns_weights_and_architecture_of_every_candidate() -> None:
    everything = AllPathsAtOnce(Searching(TINY))
    everything.step()
    fixed = {"alphas.0"}  # a softmax of one is 1, whatever its parameter
    for name, parameter in everything.module.named_parameters():
        assert parameter.grad is not None
        assert name in fixed or parameter.grad.abs().sum() > 0, name


def test_the_steps_run_in_bf16_too() -> None:
    searching = Searching(replace(TINY, bfloat16=True))
    pairs = searching.draw(0)
    alone = Alone(searching, pairs)
    for metered in steps_of(searching, pairs).values():
        metered.step()
    alone.step()
    learned = [*searching.learned(), *alone.learned()]
    assert all(bool(tensor.isfinite().all()) for tensor in learned)
    alphas = list(searching.loop.architecture.alphas)
    assert all(float(alpha.detach().abs().max()) > 0 for alpha in alphas[1:])


def test_the_benchmark_has_its_figures_and_its_bars_at_a_tiny_size() -> None:
    figures = measure(TINY)
    outcome = summary(figures, "no CUDA GPU")
    assert {bar.name: bar.limit for bar in outcome.bars} == BARS
    assert outcome.figures["gpu"] is None
    assert outcome.figures["gpu_left_out"] == "no CUDA GPU"
    assert figures["weight_step_memory_over_alone"] == pytest.approx(1.0, abs=0.01)
    assert all(bar.holds for bar in outcome.bars if "largest" in bar.name)
    row = figures["candidates_mb"]
    assert row[12]["all_paths"] > 3 * row[2]["all_paths"] > 3 * row[2]["alone"]
    low, high = figures["weight_step_time_over_alone_interval"]
    assert 0 < low <= figures["weight_step_time_over_alone"] <= high


def test_a_gpu_has_the_same_bars_and_a_second_meter_one_of_its_own() -> None:
    good = dict.fromkeys(BARS, 1.0)
    outcome = summary(good | {"meters_apart_percent": 6.0}, good)
    assert [bar.name for bar in outcome.bars if not bar.holds] == ["meters_apart_percent"]
    assert {bar.name for bar in outcome.bars} == (
        {*BARS, "meters_apart_percent"} | {f"gpu_{name}" for name in BARS}
    )
    assert outcome.figures["gpu"] == good
