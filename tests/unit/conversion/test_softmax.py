"""A softmax behind finished models: probabilities of the very logits, in the operators that are measured."""

from __future__ import annotations

import numpy as np
import pytest

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.folding import folded_weights
from stages.conversion.inspection import inspect_model
from stages.conversion.model_file import packed, unpacked
from stages.conversion.operators import changed_operators, read_operators
from stages.conversion.softmax import append_softmax, check_probabilities, probabilities_of, with_output
from stages.space.mobilenet_v2 import mobilenet_v2

NET = mobilenet_v2(resolution=32, classes=10, width=0.35)
IMAGES_NHWC = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)


def test_a_converted_model_answers_with_the_softmax_of_its_logits_in_one_piece(
    mobilenet, here: LocalDevice
) -> None:
    logits_NK = here.run_model(mobilenet.model, IMAGES_NHWC)
    model = append_softmax(mobilenet.model)

    probabilities_NK = here.run_model(model, IMAGES_NHWC)

    assert np.std(logits_NK) > 0.01
    np.testing.assert_allclose(probabilities_NK, probabilities_of(logits_NK), rtol=0, atol=1e-6)
    np.testing.assert_allclose(probabilities_NK.sum(axis=1), 1, rtol=0, atol=1e-6)
    before, after = inspect_model(mobilenet.model), inspect_model(model)
    assert after.operator_counts == {**before.operator_counts, "SOFTMAX": 1}
    assert (after.delegate_partitions, after.undelegated) == (1, ())
    assert with_output(mobilenet.model, "logits") == mobilenet.model


def test_what_ships_and_what_is_measured_are_made_of_the_same_operators(mobilenet) -> None:
    weights = folded_weights(mobilenet.module)
    for output in ("logits", "probabilities"):
        written = network_model(mobilenet.net, weights, output=output)
        converted = with_output(mobilenet.model, output)
        assert changed_operators(read_operators(written), read_operators(converted)) is None


def test_constants_and_the_signature_of_a_converted_model_stay_as_they_are(mobilenet) -> None:
    before, after = unpacked(mobilenet.model), unpacked(append_softmax(mobilenet.model))

    for one, other in zip(before.buffers, after.buffers, strict=True):
        assert (one.data is None) == (other.data is None)
        assert one.data is None or bytes(one.data) == bytes(other.data)
    content = append_softmax(mobilenet.model)
    large = [bytes(buffer.data) for buffer in before.buffers if buffer.data is not None]
    assert all(content.index(data) % 16 == 0 for data in large if len(data) > 256)
    (output,) = after.subgraphs[0].outputs
    assert after.subgraphs[0].tensors[output].name == b"probabilities"
    for signature in after.signatureDefs or ():
        assert [tensor.tensorIndex for tensor in signature.outputs] == [output]


def test_a_network_written_directly_gets_the_very_same_operator_when_it_is_appended(
    here: LocalDevice,
) -> None:
    appended = append_softmax(network_model(NET, output="logits"))
    written = network_model(NET)
    assert [p.operator for p in read_operators(appended)] == [p.operator for p in read_operators(written)]
    np.testing.assert_array_equal(here.run_model(appended, IMAGES_NHWC), here.run_model(written, IMAGES_NHWC))


def test_a_model_whose_output_is_an_image_gets_none() -> None:
    with pytest.raises(
        ConversionError, match=r"network stem does not answer with float32 logits .*16, 16, 32"
    ):
        append_softmax(block_model(mobilenet_v2(resolution=32, classes=10).blocks[0]), name="stem")


def test_a_softmax_of_other_logits_is_refused(here: LocalDevice) -> None:
    logits_NK = here.run_model(network_model(NET, output="logits"), IMAGES_NHWC)
    model = network_model(NET)
    check_probabilities(model, IMAGES_NHWC, logits_NK, here, name="right")
    content = unpacked(model)
    content.subgraphs[0].operators[-1].builtinOptions.beta = 2.0
    for wrong in (packed(content), network_model(NET, output="logits")):
        with pytest.raises(ConversionError, match="and their sum from 1 by up to") as caught:
            check_probabilities(wrong, IMAGES_NHWC, logits_NK, here, name="wrong")
        assert caught.value.exit_code == 6
