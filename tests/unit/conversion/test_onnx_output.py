"""The ONNX model that a conversion exports, as it is measured: with its softmax, as the file answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from support.every_block import as_if_trained, every_kind_of_block

from android_bench.local.device import LocalDevice
from android_bench.local.onnx_device import OnnxRuntimeDevice, is_onnx
from nasflow.base.errors import ConversionError
from stages.conversion.export import export_onnx
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.folding import folded_weights
from stages.conversion.onnx_file import onnx_of
from stages.conversion.onnx_output import check_onnx_answers, with_onnx_output
from stages.conversion.parity import Tolerance
from stages.nn.network import Network
from stages.space.block_spec import BlockSpec

NET = every_kind_of_block()
TOLERANCE = Tolerance(max_relative_diff=1e-3, min_top1_agreement_percent=99.0, min_snr_db=50.0)
IMAGES = np.random.default_rng(1).uniform(-1, 1, (3, NET.resolution, NET.resolution, 3)).astype(np.float32)
BLOCK = BlockSpec(kind="mbconv", kernel=3, expansion=3, in_channels=8, out_channels=8, resolution=9)


@pytest.fixture(scope="module")
def module() -> Network:
    return as_if_trained(Network(NET))


@pytest.fixture(scope="module")
def exported(module: Network) -> bytes:
    return export_onnx(module, (1, 3, NET.resolution, NET.resolution))


@pytest.fixture(scope="module")
def engine() -> Iterator[OnnxRuntimeDevice]:
    with OnnxRuntimeDevice(onnx_of) as device:
        yield device


def test_onnx_runtime_is_given_the_exported_model_as_it_is_and_answers_as_the_file_does(
    module: Network, exported: bytes, engine: OnnxRuntimeDevice
) -> None:
    model = network_model(NET, folded_weights(module), output="probabilities")
    answering = with_onnx_output(exported, "probabilities")
    onnx.checker.check_model(onnx.load_from_string(answering), full_check=True)
    assert engine.translated(answering, "it") is answering
    np.testing.assert_allclose(engine.run_model(answering, IMAGES).sum(axis=1), 1, atol=1e-5)
    with LocalDevice() as here:
        check_onnx_answers(answering, model, IMAGES, engine, here, TOLERANCE, name="it")


def test_logits_stay_logits(exported: bytes) -> None:
    assert with_onnx_output(exported, "logits") is exported


def test_a_model_that_answers_otherwise_is_refused_with_both_engines_names(
    exported: bytes, engine: OnnxRuntimeDevice
) -> None:
    other = network_model(NET, seed=9, output="probabilities")
    answering = with_onnx_output(exported, "probabilities")
    with (
        LocalDevice() as here,
        pytest.raises(ConversionError, match=r"network it: onnxruntime .* answers") as caught,
    ):
        check_onnx_answers(answering, other, IMAGES, engine, here, TOLERANCE, name="it")
    assert "ai-edge-litert" in caught.value.message


def test_maps_of_features_get_no_softmax() -> None:
    with pytest.raises(ConversionError, match="not one of logits"):
        with_onnx_output(onnx_of(block_model(BLOCK)), "probabilities")


def test_a_tflite_file_is_no_onnx_model(exported: bytes) -> None:
    assert is_onnx(exported)
    assert is_onnx(onnx_of(block_model(BLOCK)))
    for content in (block_model(BLOCK), b"", b"\x08\x00\x00\x00TFL3", b"no model"):
        assert not is_onnx(content)
