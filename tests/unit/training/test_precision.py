"""Which precision is chosen, and that bfloat16 trains."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from support.memory_context import memory_context
from support.toy_search import DATA, SPACE, latency_model
from torch import nn

from stages.documents import MadeBy
from stages.nas.config import SearchConfig
from stages.nas.search_loop import run_search
from stages.nn.network import load_network
from stages.space.search_space import NetConfig
from stages.training.loop import Trained
from stages.training.precision import Tried, bf16_hardware, choose, try_precision
from stages.training.recipe import Recipe
from stages.training.task import Course, Task
from stages.training.together import train_together

NET: NetConfig = SPACE.network((0, 1, 1, 1))
RECIPE = Recipe(epochs=2, batch_size=50, warmup_epochs=0.0, learning_rate=0.05, side_by_side=1)


@pytest.mark.parametrize(
    ("step_ms", "loss", "chosen"),
    [(40.0, 1.0, "bf16"), (40.0, 1.02, "bf16"), (40.0, 1.1, "32"), (95.0, 1.0, "32"), (300.0, 0.9, "32")],
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster_and_learns_as_well(
    step_ms: float, loss: float, chosen: str
) -> None:
    choice = choose(Tried(step_ms=100.0, loss=1.0), Tried(step_ms=step_ms, loss=loss))
    assert choice.precision == chosen
    assert choice.bfloat16 is not None and choice.bfloat16.step_ms == step_ms


def test_flags_of_the_processor_say_whether_it_multiplies_bfloat16(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("proc")
    monkeypatch.setattr("stages.training.precision._NVIDIA", folder / "none")
    for flags, capable in (
        ("fpu avx2 avx512_bf16", True),
        ("fpu avx2 amx_bf16 amx_tile", True),
        ("avx2", False),
    ):
        cpuinfo = folder / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: X\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        monkeypatch.setattr("stages.training.precision._CPUINFO", cpuinfo)
        assert bf16_hardware().capable == capable


@pytest.mark.parametrize("word", [16, "16", "fp16"])
def test_float16_is_refused_with_the_reason(word: object) -> None:
    with pytest.raises(ValidationError, match="small gradients become 0 in it"):
        Recipe.model_validate({"precision": word})


def test_a_trial_in_either_precision_starts_and_learns_alike() -> None:
    full, half = (try_precision(NET, RECIPE, DATA, 0, bf16=bf16, steps=20) for bf16 in (False, True))
    assert half.loss != full.loss
    assert half.loss == pytest.approx(full.loss, rel=0.05)


def test_a_network_trained_in_bfloat16_has_float32_weights_and_says_so() -> None:
    outcomes: list[Trained] = []
    for precision in ("32", "bf16"):
        course = Course(RECIPE.model_copy(update={"precision": precision}), DATA, 0)
        task = Task(precision, NET)
        train_together([task], course, memory_context("x"), lambda _index, outcome: outcomes.append(outcome))
    full, half = outcomes
    assert full.weights != half.weights
    assert half.curve[-1].train_loss == pytest.approx(full.curve[-1].train_loss, rel=0.1)
    assert [made_by.precision for made_by in half.made_by] == ["bf16"]
    assert [made_by.precision for made_by in full.made_by] == ["32"]
    network: nn.Module = load_network(NET, half.weights)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_a_search_in_bfloat16_learns_an_architecture() -> None:
    config = SearchConfig(
        warmup_epochs=1, epochs=1, batch_size=100, architecture_every=2, architecture_batch_size=50
    )
    result = run_search(
        config,
        SPACE,
        DATA,
        1,
        latency=latency_model(),
        targets_ms=[0.08],
        minimum_share=0.5,
        context=memory_context("search"),
        precision="bf16",
    )
    assert [made_by.precision for made_by in result.made_by] == ["bf16"]
    assert len({round(p, 6) for row in result.log_probabilities for p in row if len(row) > 1}) > 2


def test_precision_is_a_fact_that_older_documents_lack() -> None:
    fields = {
        "torch": "2.13.0",
        "processor": "x",
        "instructions": "AVX2",
        "threads": 1,
        "accelerator": "",
        "cores": 2,
        "omp_num_threads": "",
    }
    assert MadeBy.model_validate(fields).model_dump() == fields
    assert MadeBy.model_validate({**fields, "precision": "bf16"}).model_dump()["precision"] == "bf16"


def test_yaml_reads_32_as_a_number() -> None:
    assert Recipe.model_validate({"precision": 32}).precision == "32"
