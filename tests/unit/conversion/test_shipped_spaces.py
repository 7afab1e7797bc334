"""Random networks of every space that ships: converted in each precision and proved, and more written."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.every_block import as_if_trained

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError
from stages.conversion.block_weights import random_weights
from stages.conversion.chain import Finished, Limits, convert_network, finish_network
from stages.conversion.config import ConvertConfig
from stages.conversion.converter import TensorflowConverter
from stages.conversion.flatbuffer import Implementations, network_model
from stages.conversion.lint import GraphPrecision, lint_graph
from stages.conversion.operators import changed_operators, read_operators
from stages.conversion.parity import Tolerance
from stages.conversion.precision_files import PrecisionFiles
from stages.data.config import DataConfig, open_dataset
from stages.data.grey import GreyImages
from stages.nn.network import Network
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import BlockSpec, Implementation
from stages.space.search_space import NetConfig, SearchSpace

WAYS: tuple[Implementation, ...] = ("native", "split")
PRECISIONS: tuple[GraphPrecision, ...] = ("float16", "int8")
DATA = DataConfig(train_images=1000, architecture_images=100, choice_images=200)
DEFAULTS = ConvertConfig()
LIMITS = Limits(
    images=16,
    tolerance=Tolerance(DEFAULTS.max_relative_diff, DEFAULTS.min_top1_agreement_percent, DEFAULTS.min_snr_db),
    one_partition=True,
)


def small(name: str) -> SearchSpace:
    """The space with images of 32 pixels and a quarter of the channels: the same operators, in less time."""
    return load_space(SpaceConfig(name=name, resolution=32, width_multiplier=0.25))


def networks(space: SearchSpace, count: int) -> list[NetConfig]:
    chance = random.Random(f"0/{space.name}")
    return [
        space.network([chance.randrange(len(layer.blocks)) for layer in space.layers()]) for _ in range(count)
    ]


def ways(net: NetConfig, way: Implementation) -> Implementations:
    return {block.key: way for block in net.blocks if way in block.implementations}


def expected(blocks: tuple[BlockSpec, ...], way: Implementation) -> Counter[str]:
    """What the blocks' descriptions say that their operators are."""
    found = Counter({"FULLY_CONNECTED": 1, "SOFTMAX": 1, "MEAN": 1})
    for block in blocks[:-1]:
        expands = block.expansion > 1
        found["ADD"] += block.residual
        if block.kind == "mbconv":
            parts = 4 if way in block.implementations and way == "split" else 1
            gate = block.squeeze_excite
            found["CONV_2D"] += 1 + expands + 2 * gate
            found["DEPTHWISE_CONV_2D"] += parts
            found["ADD"] += parts - 1
            found["MEAN"] += gate and block.out_resolution > 1
            found["MUL"] += 2 * gate
            found["HARD_SWISH"] += (1 + expands) * block.hswish
        else:
            found["CONV_2D"] += 1 + (block.kind == "fused" and expands)
            found["HARD_SWISH"] += block.hswish
    return +found


def without_changes_of_type(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if "QUANTIZE" not in name}


@dataclass(frozen=True)
class Proved:
    """A network, and its float32 file that was held against PyTorch at every step."""

    net: NetConfig
    implementations: Implementations
    finished: Finished


@pytest.fixture(scope="module")
def proved(
    converter: TensorflowConverter, here: LocalDevice, validation_images: GreyImages
) -> Callable[[str, int], Proved]:
    """Some seconds each: the whole way of a network, which PyTorch's exporter walks alone for two of them."""

    @cache
    def proved(name: str, number: int) -> Proved:
        net = networks(small(name), 2)[number]
        implementations = ways(net, "native") | ways(net, WAYS[number])
        steps = convert_network(as_if_trained(Network(net)), converter, implementations, name=name)
        finished = finish_network(steps, validation_images, converter, here, LIMITS, name=name)
        return Proved(net, implementations, finished)

    return proved


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", shipped_spaces())
def test_a_random_network_is_converted_and_proved_at_every_step(
    name: str, number: int, proved: Callable[[str, int], Proved]
) -> None:
    found = proved(name, number)
    check = found.finished.check
    assert len(check.edges) == 4
    assert check.findings == ()
    assert check.delegate_partitions == 1
    assert check.operator_counts == expected(found.net.blocks, WAYS[number])
    written = network_model(found.net, implementations=found.implementations)
    assert changed_operators(read_operators(written), read_operators(found.finished.model)) is None


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", shipped_spaces())
def test_a_random_network_keeps_its_answers_in_other_precisions_on_real_and_extreme_images(
    name: str, number: int, precision: GraphPrecision, proved: Callable[[str, int], Proved], here: LocalDevice
) -> None:
    """By the configuration's limits of the ratio; h-swish is refused in int8 unless it may fall apart."""
    found, dataset = proved(name, number), open_dataset(DATA)
    choice, model = dataset.load("choice"), found.finished.model
    in_pieces = precision == "int8" and any(block.hswish for block in found.net.blocks)
    # Weights that no training has made: the classes of a deep network are as likely as each other.
    config = ConvertConfig(calibration_images=40, min_int8_top1_percent=60)
    maker = PrecisionFiles(config, dataset, choice, here, seed=0)
    if in_pieces:
        with pytest.raises(ConversionError, match="HARD_SWISH") as raised:
            maker.make(model, precision, found.net, name=name)
        assert raised.value.exit_code == 6
        maker = replace(maker, config=config.model_copy(update={"require_one_partition": False}))

    made = maker.make(model, precision, found.net, name=name)

    maker.check_kept(made, found.net, found.implementations, name=name)
    assert made.input_type == ("uint8" if precision == "int8" else "float32")
    counts = made.check.operator_counts
    assert without_changes_of_type(counts) == expected(found.net.blocks, WAYS[number])
    assert (made.check.delegate_partitions == 1) is not in_pieces
    assert (made.few.images, made.check.images) == (8, 200)
    strict = maker.config.model_copy(update={f"min_{precision}_snr_db": made.few.snr_db + 1})
    with pytest.raises(ConversionError, match="on 8 real and extreme images") as raised:
        replace(maker, config=strict).check_kept(made, found.net, found.implementations, name=name)
    assert raised.value.exit_code == 6
    assert any(f"block {i} ({b.key})" in raised.value.message for i, b in enumerate(found.net.blocks))


@pytest.mark.parametrize("name", shipped_spaces())
def test_two_hundred_random_networks_are_written_as_they_are_described(name: str) -> None:
    """Structure and lint of all, for which no runtime is asked; LiteRT runs one of thirty-nine."""
    image_NHWC = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    for number, net in enumerate(networks(small(name), 200)):
        way = WAYS[number % 2]
        implementations = ways(net, "native") | ways(net, way)
        model = network_model(net, random_weights(net.blocks), implementations=implementations)

        found = lint_graph(model, delegate="gpu")

        assert found.operator_counts == expected(net.blocks, way)
        assert (found.findings, found.delegate_partitions) == ((), 1)
        if number % 39 == 0:  # of both ways
            interpreter = Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image_NHWC)
            interpreter.invoke()
            probabilities = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            assert probabilities.shape == (1, net.classes)
            assert probabilities.sum() == pytest.approx(1, abs=1e-5)
            names = [operator["op_name"] for operator in interpreter._get_ops_details()]
            assert names.count("DELEGATE") == 1
