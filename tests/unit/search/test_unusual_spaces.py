"""Spaces with little or nothing to choose, and latency models that miss a block."""

from __future__ import annotations

import pytest
from support.memory_context import MemoryScratch, MemoryStore, memory_context
from support.toy_search import DATA, SPACE, latency_model

from nasflow.base.errors import UsageError
from stages.documents import SearchResult
from stages.nas.config import SearchConfig
from stages.nas.targets import TargetConfig
from stages.search import Search
from stages.space.search_space import Candidate, SearchSpace, StageSpec

CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2, architecture_batch_size=50
)
ONE = (Candidate(kernel=3, expansion=2),)
ONE_PER_LAYER = SPACE.model_copy(update={"name": "one", "candidates": ONE, "skip": False})
ONE_OR_SKIP = SPACE.model_copy(update={"name": "one_or_skip", "candidates": ONE})
FIXED_AMID = SPACE.model_copy(
    update={
        "name": "fixed_amid",
        "stages": (
            StageSpec(width=8, layers=2, stride=2),
            StageSpec(width=8, layers=1, fixed=ONE[0]),
            StageSpec(width=16, layers=2, stride=2),
        ),
    }
)


def searched(space: SearchSpace, gradient: str) -> SearchResult:
    config = CONFIG.model_copy(update={"gradient": gradient})
    stage = Search(config=config, target=TargetConfig(ms=1.0), space=space, data=DATA, seed=2)
    return stage.run(memory_context("search"), latency=latency_model(space))


@pytest.mark.parametrize("gradient", ["two_path", "reinforce"])
@pytest.mark.parametrize("space", [ONE_OR_SKIP, FIXED_AMID], ids=lambda space: space.name)
def test_a_layer_with_one_candidate_is_searched_around(space: SearchSpace, gradient: str) -> None:
    result = searched(space, gradient)
    sizes = [len(layer.blocks) for layer in space.layers()]
    assert 1 in sizes
    assert max(sizes) > 1
    for row, size in zip(result.log_probabilities, sizes, strict=True):
        assert len(row) == size
        assert (max(row) - min(row) > 0) == (size > 1)
        assert size > 1 or row == (0.0,)


@pytest.mark.parametrize("gradient", ["two_path", "reinforce"])
def test_a_space_of_one_network_is_searched_at_once(gradient: str) -> None:
    result = searched(ONE_PER_LAYER, gradient)
    assert ONE_PER_LAYER.size == 1
    assert result.log_probabilities == ((0.0,),) * len(ONE_PER_LAYER.layers())
    assert [point.entropy for point in result.history] == [0.0, 0.0]


@pytest.mark.parametrize("lost", ["a candidate's", "the stem's"])
def test_a_block_that_was_not_measured_is_an_error_and_no_guess(lost: str) -> None:
    latency = latency_model()
    block = SPACE.layers()[2].blocks[1] if lost == "a candidate's" else SPACE.fixed_blocks()[0]
    assert block is not None
    known = {key: ms for key, ms in latency.block_ms.items() if key != block.key}
    store, scratch = MemoryStore(), MemoryScratch()
    with pytest.raises(UsageError, match=f"block {block.key} is not in the latency table") as caught:
        Search(config=CONFIG, target=TargetConfig(ms=0.08), space=SPACE, data=DATA, seed=2).run(
            memory_context("search", store=store, scratch=scratch),
            latency=latency.model_copy(update={"block_ms": known}),
        )
    assert caught.value.exit_code == 2
    assert "nasflow profile" in caught.value.hint
    assert not store.content
    assert not scratch.entries
