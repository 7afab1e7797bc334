"""Judging paths in the supernet: what is asked of it, and that it is left as it was."""

from __future__ import annotations

import pytest
import torch
from support.memory_context import memory_context
from support.toy_search import DATA, SPACE, latency_model
from torch import Tensor, nn

from nasflow.base.errors import TrainingDivergedError
from stages.data.config import open_dataset
from stages.data.dataset import Batches
from stages.nas.evaluation import SupernetEvaluator, explore_supernet
from stages.nas.exploration import Explored
from stages.nas.search_loop import architecture_of
from stages.nn.supernet import Supernet

COSTS_MS = [row.tolist() for row in architecture_of(SPACE, latency_model()).block_ms]
BUDGET = 50


@pytest.fixture(scope="module")
def validation() -> Batches:
    return open_dataset(DATA).load("choice").batches(50, torch.device("cpu"))


def used_supernet(*, training: bool) -> Supernet:
    """One whose BN statistics are not the initial ones, and of which some weights do not learn."""
    torch.manual_seed(0)
    supernet = Supernet(SPACE)
    with torch.no_grad():
        supernet(torch.randn(8, 3, 32, 32), [0] * len(SPACE.layers()))
    supernet.head.requires_grad_(False)
    next(iter(supernet.parameters())).grad = torch.ones(8, 3, 3, 3)
    return supernet.train(training)


def explored(supernet: Supernet, validation: Batches) -> Explored:
    evaluate = SupernetEvaluator(supernet, validation, memory_context("prune"))
    return explore_supernet(evaluate, COSTS_MS, [0.05], budget=BUDGET, seed=3)


def state_of(supernet: Supernet) -> dict[str, object]:
    """All that a later user of the supernet could notice, the tensors apart."""
    norms = {n: m.track_running_stats for n, m in supernet.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return {
        "modes": {name: module.training for name, module in supernet.named_modules()},
        "learns": {name: parameter.requires_grad for name, parameter in supernet.named_parameters()},
        "gradients": {name: p.grad is not None for name, p in supernet.named_parameters()},
        "tracks": norms,
    }


def tensors_of(supernet: Supernet) -> dict[str, Tensor]:
    """Weights, running statistics and ``num_batches_tracked``."""
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
def test_exploring_leaves_the_supernet_as_it_was(validation: Batches, training: bool) -> None:
    supernet = used_supernet(training=training)
    state, tensors = state_of(supernet), tensors_of(supernet)
    assert any(name.endswith("num_batches_tracked") and int(t) == 1 for name, t in tensors.items())
    explored(supernet, validation)
    assert state_of(supernet) == state
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in supernet.state_dict().items())


def test_a_loss_that_is_no_number_ends_it_and_leaves_the_supernet_as_it_was(validation: Batches) -> None:
    supernet = used_supernet(training=False)
    with torch.no_grad():
        next(iter(supernet.classifier.parameters())).fill_(float("nan"))
    state, tensors = state_of(supernet), tensors_of(supernet)
    with pytest.raises(TrainingDivergedError, match=r"network \[.*\] in the supernet"):
        explored(supernet, validation)
    assert state_of(supernet) == state
    same = [torch.equal(t, tensors[n]) or bool(t.isnan().any()) for n, t in supernet.state_dict().items()]
    assert all(same)


def test_each_network_is_judged_with_its_batchs_own_statistics(validation: Batches) -> None:
    supernet = used_supernet(training=False)
    outcome = explored(supernet, validation)
    batches = list(validation.in_order(50))
    assert len(outcome.observed_N) == BUDGET
    for number in (0, 1, 2, BUDGET - 1):
        x_NCHW, labels_N = batches[number % len(batches)]
        path = outcome.paths_NL[number].tolist()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(used_supernet(training=True)(x_NCHW, path), labels_N)
        assert outcome.observed_N[number] == pytest.approx(-float(loss), abs=1e-5)
