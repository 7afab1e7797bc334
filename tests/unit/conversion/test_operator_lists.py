"""What two models of one network are made of, and what only one of them has."""

from __future__ import annotations

import pytest
from support.every_block import every_kind_of_block

from stages.conversion.flatbuffer import block_model, empty_model, network_model
from stages.conversion.inspection_worker import operator_counts
from stages.conversion.operators import Operator, changed_operators, read_operators
from stages.space.block_spec import BlockSpec

SIZES = {"in_channels": 8, "out_channels": 16, "resolution": 9}
BLOCK = BlockSpec(kind="mbconv", kernel=7, expansion=2, stride=2, **SIZES)


def test_the_operators_of_a_block_are_told_with_what_decides_their_time() -> None:
    assert [placed.operator for placed in read_operators(block_model(BLOCK))] == [
        Operator("CONV_2D", (1, 9, 9, 16), kernel=(16, 1, 1, 8), activation="RELU6"),
        Operator(
            "DEPTHWISE_CONV_2D",
            (1, 5, 5, 16),
            kernel=(1, 7, 7, 16),
            stride=2,
            padding="SAME",
            activation="RELU6",
        ),
        Operator("CONV_2D", (1, 5, 5, 16), kernel=(16, 1, 1, 16)),
    ]
    assert str(read_operators(block_model(BLOCK))[1].operator) == (
        "DEPTHWISE_CONV_2D 7x7 stride 2 to 1x5x5x16 with RELU6"
    )
    assert str(read_operators(empty_model())[0].operator) == "RELU6 to 1x1"


def test_none_of_a_models_operators_is_left_out() -> None:
    model = network_model(every_kind_of_block())
    assert len(read_operators(model)) == sum(operator_counts(model).values())


def test_equal_models_do_not_differ_in_whatever_order() -> None:
    placed = read_operators(network_model(every_kind_of_block()))
    assert changed_operators(placed, placed[::-1]) is None


@pytest.mark.parametrize(("way", "lost", "new"), [("split", 1, 7)])
def test_what_only_one_model_has_is_named_with_its_place(way: str, lost: int, new: int) -> None:
    whole, parts = read_operators(block_model(BLOCK)), read_operators(block_model(BLOCK, way))
    change = changed_operators(whole, parts)
    assert change is not None
    assert [placed.tensor for placed in change.lost] == ["blocks.0.depthwise"]
    assert (len(change.lost), len(change.new)) == (lost, new)
    assert {placed.operator.name for placed in change.new} == {"DEPTHWISE_CONV_2D", "ADD"}
