"""A finished file's graph is looked at for what will run it."""

from __future__ import annotations

import pytest
from support.altered_models import with_operator_behind
from support.every_block import every_kind_of_block

from nasflow.base.errors import ConversionError
from stages.conversion.flatbuffer import network_model
from stages.conversion.graph_check import sound_graph
from stages.conversion.lint import GraphDelegate
from stages.conversion.quantize import in_precision
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

NET = every_kind_of_block()
MODEL = network_model(NET)


@pytest.mark.parametrize("delegate", ["cpu", "gpu", "npu"])
def test_a_network_as_it_should_be_is_sound_for_every_delegate(delegate: GraphDelegate) -> None:
    graph = sound_graph(MODEL, NET, name="every", delegate=delegate)
    assert (graph.delegate_partitions, graph.findings) == (1, ())
    assert graph.operators == sum(graph.operator_counts.values())


@pytest.mark.parametrize("delegate", ["cpu", "gpu"])
def test_an_operator_outside_what_a_delegate_takes_is_refused_for_it(delegate: GraphDelegate) -> None:
    odd = with_operator_behind(MODEL, 0, "LOG_SOFTMAX")
    words = rf"every \(float32, {delegate}\) .*: 1 LOG_SOFTMAX"
    with pytest.raises(ConversionError, match=words) as caught:
        sound_graph(odd, NET, name="every", delegate=delegate)
    assert caught.value.exit_code == 6
    allowed = sound_graph(odd, NET, name="every", delegate=delegate, one_partition=False)
    assert len(allowed.findings) == 2


def test_what_an_npu_takes_over_is_not_judged() -> None:
    odd = with_operator_behind(MODEL, 0, "LOG_SOFTMAX")
    assert sound_graph(odd, NET, name="every", delegate="npu").findings == ()


def test_xnnpacks_pieces_decide_for_cpus_alone() -> None:
    """It leaves out h-swish in int8, which a GPU takes."""
    space = SearchSpace(
        name="tiny",
        resolution=16,
        classes=10,
        stem=StemSpec(width=8),
        stages=(StageSpec(width=8, layers=1, stride=2),),
        head_width=16,
        candidates=(Candidate(kernel=3, expansion=2, activation="hswish"),),
    )
    net = space.network([0])
    model = in_precision(network_model(net), "int8")
    words = {"name": "h", "precision": "int8", "input_type": "uint8"}
    with pytest.raises(ConversionError, match="HARD_SWISH"):
        sound_graph(model, net, **words)  # type: ignore[arg-type]
    assert sound_graph(model, net, delegate="gpu", **words).findings == ()  # type: ignore[arg-type]


def test_other_ends_than_the_networks_are_refused() -> None:
    with pytest.raises(ConversionError, match="every in int8 was converted to a model from float32"):
        sound_graph(MODEL, NET, name="every", precision="int8", input_type="uint8")
