"""What ``benchmarks/conversion.py`` makes of conversions, without making any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks._keras_networks import weights_in_order
from benchmarks._memory import resident_growth
from benchmarks._other_precisions import Photos, has_dot_products, snr_bars
from benchmarks.conversion import parity_bars, with_drawn_statistics
from stages.space.mobilenet_v2 import mobilenet_v2

NET = mobilenet_v2(resolution=32, classes=10, width=0.35)
MEGABYTES_64 = 2**26


def test_weights_for_keras_are_in_the_order_in_which_layers_compute() -> None:
    network = with_drawn_statistics(NET, 0)
    arrays = weights_in_order(network)
    shapes = [array.shape for array in arrays]
    stem = NET.blocks[0]
    assert shapes[:5] == [(3, 3, 3, stem.out_channels), *[(stem.out_channels,)] * 4]
    assert shapes[5] == (3, 3, stem.out_channels, 1), "the first MBConv has no expansion"
    assert shapes[-2:] == [(NET.blocks[-1].in_channels, 10), (10,)]
    numbers = sum(tensor.numel() for tensor in network.state_dict().values() if tensor.ndim)
    assert sum(array.size for array in arrays) == numbers


def test_drawn_statistics_are_the_seeds_and_of_no_default_number() -> None:
    one, same, other = (with_drawn_statistics(NET, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    for name, tensor in one.items():
        if name.endswith(("weight", "running_mean", "running_var")):
            assert not torch.equal(tensor, other[name])
            assert not torch.all(tensor == tensor.flatten()[0])


def test_photos_reach_from_minus_one_to_one() -> None:
    photos = Photos(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    assert len(photos) == 2
    assert photos.batch_NHWC(np.array([1, 0])).ravel().tolist() == [1.0, -1.0]


def test_the_worst_of_all_checks_is_held_against_each_limit() -> None:
    good = {"max_relative_diff": 1e-6, "top1_agreement_percent": 100.0, "snr_db": 110.0}
    assert all(bar.holds for bar in parity_bars([good, good], ""))
    for name, value in (("max_relative_diff", 2e-4), ("top1_agreement_percent", 99.0), ("snr_db", 50.0)):
        bars = parity_bars([good, {**good, name: value}], "int8_")
        assert [bar.value for bar in bars if not bar.holds] == [value]
        assert all(bar.name.startswith("int8_") for bar in bars)


def test_the_worst_ratio_of_each_precision_counts_extreme_images_too() -> None:
    def one(snr_db: float, few_db: float) -> dict[str, object]:
        return {"snr_db": snr_db, "few": {"snr_db": few_db}}

    networks = [{"float16": one(60, 50), "int8": one(20, 4)}, {"float16": one(40, 70), "int8": one(30, 30)}]
    bars = {bar.name: bar for bar in snr_bars(networks, "random_")}
    assert {name: bar.value for name, bar in bars.items()} == {
        "random_float16_least_snr_db": 40,
        "random_int8_least_snr_db": 4,
    }
    assert [bar.holds for bar in bars.values()] == [True, False]


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu sse avx512_vnni", True),
        ("flags\t\t: fpu avx_vnni", True),
        ("flags\t\t: fpu amx_tile amx_int8", True),
        ("Features\t: fp asimd asimddp", True),
        ("Features\t: fp asimd", False),
        ("model name\t: vnni", False),
    ],
)
def test_dot_products_of_int8_are_told_by_the_cpus_flags(line: str, has: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n", encoding="utf-8")
    assert has_dot_products(tmp_path / "cpuinfo") is has
    assert not has_dot_products(tmp_path / "nothing")


def test_the_growth_of_another_process_is_seen() -> None:
    program = f"input(); held = bytearray({MEGABYTES_64}); print(len(held), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def step() -> None:
            print(file=child.stdin, flush=True)
            assert child.stdout is not None
            child.stdout.readline()

        growth = resident_growth(step, (None, child.pid))
        print(file=child.stdin, flush=True)
    if growth is None:
        assert sys.platform != "linux", "Linux tells how much memory a process has"
        pytest.skip("this system does not tell")
    assert growth[1] >= MEGABYTES_64
    assert growth[0] < MEGABYTES_64
