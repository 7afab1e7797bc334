"""Tensors that are zero for all images of calibration: their int8 model is still one that XNNPACK takes."""

from __future__ import annotations

import numpy as np
import pytest

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.block_weights import random_weights
from stages.conversion.flatbuffer import network_model
from stages.conversion.inspection import inspect_model
from stages.conversion.int8_scales import with_workable_scales
from stages.conversion.quantize import assumed_ranges, int8_model
from stages.space import SpaceConfig, load_space
from stages.space.search_space import NetConfig

# Squeeze-and-excite, h-swish, residuals and large kernels in parts, at all sizes down to one pixel.
SPACE = load_space(SpaceConfig(name="mobile_v3", resolution=32, width_multiplier=0.25))


@pytest.fixture(scope="module")
def net() -> NetConfig:
    return SPACE.network([(3 * i) % len(layer.blocks) for i, layer in enumerate(SPACE.layers())])


@pytest.fixture(scope="module")
def model(net: NetConfig) -> bytes:
    ways = {block.key: "split" for block in net.blocks if "split" in block.implementations}
    return network_model(net, random_weights(net.blocks), implementations=ways)


def test_a_tensor_that_is_zero_makes_no_model_that_is_refused(
    model: bytes, here: LocalDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = assumed_ranges(model)
    image_NHWC = np.full((1, 32, 32, 3), 128, np.uint8)
    pieces = inspect_model(int8_model(model, ranges)).delegate_partitions
    computed = list(ranges)[1:-2]
    refused = 0
    for name in computed[:: len(computed) // 8]:
        dead = {**ranges, name: (0.0, 0.0)}
        quantized = int8_model(model, dead)
        assert inspect_model(quantized).delegate_partitions == pieces, name
        assert np.isfinite(here.run_model(quantized, image_NHWC)).all()
        with monkeypatch.context() as patch:
            patch.setattr("stages.conversion.quantize.with_workable_scales", lambda _, ranges: ranges)
            plain = int8_model(model, dead)
        try:
            refused += inspect_model(plain).delegate_partitions != pieces
        except ConversionError:
            refused += 1
    assert refused >= 2


def test_ordinary_ranges_stay_as_they_are(model: bytes) -> None:
    ranges = dict(assumed_ranges(model))
    assert with_workable_scales(model, ranges) == ranges


def test_all_tensors_may_be_zero(model: bytes) -> None:
    dead = dict.fromkeys(assumed_ranges(model), (0.0, 0.0))
    found = with_workable_scales(model, dead)
    assert found.keys() == dead.keys()
    assert inspect_model(int8_model(model, dead)).operators > 100
