"""Candidates with squeeze-and-excite and h-swish are searched as any others are."""

from __future__ import annotations

import pytest
import torch
from support.memory_context import MemoryScratch, memory_context
from support.toy_search import DATA, SPACE, latency_model

from stages.nas.config import SearchConfig
from stages.nas.search_loop import CHECKPOINT
from stages.nas.targets import TargetConfig
from stages.nn.blocks import SqueezeExcite
from stages.nn.supernet import Supernet, recalibrate_bn
from stages.search import Search
from stages.space.search_space import Candidate
from stages.training.checkpoint import unpack

GATED = SPACE.model_copy(
    update={
        "name": "gated",
        "candidates": (
            Candidate(kernel=3, expansion=2),
            Candidate(kernel=3, expansion=2, squeeze_excite=True),
            Candidate(kernel=3, expansion=2, activation="hswish"),
            Candidate(kernel=3, expansion=2, squeeze_excite=True, activation="hswish"),
            Candidate(kind="fused", kernel=3, expansion=2, activation="hswish"),
        ),
    }
)
PATH = (0, 1, 3, 2)
CONFIG = SearchConfig(
    warmup_epochs=1, epochs=1, batch_size=50, architecture_every=2, architecture_batch_size=50
)


def images(count: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("gradient", ["two_path", "reinforce"])
def test_a_search_trains_the_gates_and_learns_what_to_prefer(gradient: str) -> None:
    scratch = MemoryScratch()
    config = CONFIG.model_copy(update={"gradient": gradient})
    stage = Search(config=config, target=TargetConfig(ms=1.0), space=GATED, data=DATA, seed=2)
    result = stage.run(memory_context("search", scratch=scratch), latency=latency_model(GATED))
    for row, layer in zip(result.log_probabilities, GATED.layers(), strict=True):
        assert len(row) == len(layer.blocks)
        assert (max(row) > min(row)) == (len(row) > 1)
    tensors, _ = unpack(scratch.entries[CHECKPOINT])
    biases = [t for name, t in tensors.items() if name.startswith("supernet.") and "excite.bias" in name]
    assert len(biases) == 2 * 3
    assert all(bool(bias.isfinite().all()) and bool(bias.abs().max() > 0) for bias in biases)


def test_the_gradient_of_a_weight_step_reaches_the_gates_of_the_active_path_alone() -> None:
    torch.manual_seed(0)
    supernet = Supernet(GATED)
    supernet(images(), PATH).logsumexp(1).sum().backward()
    for index, layer in enumerate(supernet.layers):
        for choice, candidate in enumerate(layer.get_submodule("candidates").children()):
            for gate in (part for part in candidate.modules() if isinstance(part, SqueezeExcite)):
                gradients = [p.grad for p in gate.parameters()]
                if PATH[index] == choice:
                    assert all(g is not None and bool(g.abs().max() > 0) for g in gradients)
                else:
                    assert gradients == [None] * 4


def test_both_gates_of_a_pair_of_such_candidates_have_a_true_gradient() -> None:
    """Against finite differences of the mixture that the pair's gates weigh, in double precision."""
    torch.manual_seed(0)
    supernet = Supernet(GATED).double()
    for part in supernet.modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.weight)
    layer, x_NCHW = supernet.layers[3], torch.randn(2, 16, 4, 4, dtype=torch.float64)
    supernet.eval()
    gates_2 = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    layer.forward_pair(x_NCHW, 3, 1, gates_2).pow(2).sum().backward()
    with torch.no_grad():
        active, other = layer(x_NCHW, 3), layer(x_NCHW, 1)
        for index, direction in enumerate((active, other)):
            step = 1e-6
            ahead, behind = ((active + sign * step * direction).pow(2).sum() for sign in (1, -1))
            assert gates_2.grad is not None
            assert float(gates_2.grad[index]) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)


def test_a_path_with_them_is_cut_out_and_recalibrated_with_its_gates() -> None:
    torch.manual_seed(0)
    supernet = Supernet(GATED)
    torch.nn.init.normal_(supernet.classifier.get_parameter("dense.weight"))
    network = supernet.extract(PATH)
    assert sum(p.numel() for p in network.parameters()) == GATED.network(PATH).parameters
    recalibrate_bn(network, iter(images(24).split(8)))
    alike = supernet.extract(PATH)
    alike.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(images()), alike.eval()(images()))
        for gate in (part for part in alike.modules() if isinstance(part, SqueezeExcite)):
            gate.excite.bias.fill_(-10.0)  # closes it
        assert not torch.allclose(network(images()), alike(images()))
