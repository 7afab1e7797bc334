"""What single steps of a search change, seen from the checkpoints that it leaves after each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise, product

import pytest
import torch
from scipy.stats import chisquare
from support.memory_context import memory_context
from support.toy_search import DATA, EACH_STEP, SPACE, StoppingScratch, latency_model
from torch import Tensor

from pipeline.stage import Context
from stages.data.config import open_dataset
from stages.nas.config import SearchConfig
from stages.nas.search_loop import SearchLoop, architecture_of, run_search
from stages.nas.targets import latency_targets
from stages.nn.supernet import Supernet
from stages.training.checkpoint import unpack
from stages.training.runtime import start_runtime

CONFIG = SearchConfig(
    warmup_epochs=1,
    epochs=1,
    batch_size=50,
    learning_rate=0.1,  # so that no change of the last steps is lost in rounding
    architecture_every=3,
    architecture_batch_size=50,
    weight_decay=0.01,
    estimator="two_path",
)
BY_WINDOW = CONFIG.model_copy(update={"estimator": "window"})
STEPS = 10
TARGET_MS, SHARE = 0.085, 0.5


def new_loop(config: SearchConfig, context: Context) -> SearchLoop:
    runtime = start_runtime(3, checkpoint_seconds=1e9)
    training, validation = (open_dataset(DATA).load(part) for part in ("train", "architecture"))
    return SearchLoop(
        config,
        SPACE,
        3,
        architecture_of(SPACE, latency_model()),
        latency_targets(SPACE, latency_model(), [TARGET_MS], SHARE),
        context,
        runtime,
        training.batches(config.batch_size, runtime.device),
        validation.batches(config.architecture_batch_size, runtime.device),
    )


def checkpoints_of(config: SearchConfig) -> list[dict[str, Tensor]]:
    """The state after each step (and again at the end of each epoch), momentum named by its weight."""
    scratch = StoppingScratch()
    context = memory_context("search", scratch=scratch)
    run_search(
        config,
        SPACE,
        DATA,
        3,
        latency=latency_model(),
        targets_ms=[TARGET_MS],
        minimum_share=SHARE,
        context=context,
        checkpoint_seconds=EACH_STEP,
    )
    names = [name for name, p in Supernet(SPACE).named_parameters() if p.ndim > 1]
    names += [name for name, p in Supernet(SPACE).named_parameters() if p.ndim <= 1]
    states = []
    for payload in scratch.saved:
        tensors, _ = unpack(payload)
        for index, name in enumerate(names):
            momentum = tensors.pop(f"weights_optimizer.{index}.momentum_buffer", None)
            if momentum is not None:
                tensors[f"supernet.{name}.momentum"] = momentum
        states.append(tensors)
    assert len(states) == 2 * (STEPS + 1)
    return states


@pytest.fixture(scope="module")
def by_pairs() -> list[dict[str, Tensor]]:
    return checkpoints_of(CONFIG)


@pytest.fixture(scope="module", params=["two_path", "window"])
def checkpoints(request: pytest.FixtureRequest, by_pairs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    return by_pairs if request.param == "two_path" else checkpoints_of(BY_WINDOW)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() <= after.keys()
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


def candidates(names: Iterable[str]) -> dict[tuple[int, int], set[str]]:
    """Changed tensors of each (layer, candidate)."""
    found: dict[tuple[int, int], set[str]] = {}
    for name in names:
        match = re.match(r"supernet\.layers\.(\d+)\.candidates\.(\d+)\.", name)
        if match:
            found.setdefault((int(match[1]), int(match[2])), set()).add(name)
    return found


def weight_steps(checkpoints: list[dict[str, Tensor]]) -> list[set[str]]:
    """Tensors that each step changed, first of the warm-up, then of the search."""
    epochs = checkpoints[: STEPS + 1], checkpoints[STEPS + 1 :]
    starts = [{"": torch.zeros(())} | epochs[0][0], epochs[0][-1]]
    assert not changed(epochs[0][-2], epochs[0][-1])
    assert not changed(epochs[1][-2], epochs[1][-1])
    steps = [changed(a, b) for a, b in pairwise(epochs[0][:-1])]
    return [*steps, *(changed(a, b) for a, b in pairwise([starts[1], *epochs[1][:-1]]))]


def test_a_weight_step_changes_the_active_path_alone_and_all_of_it(
    checkpoints: list[dict[str, Tensor]],
) -> None:
    last = checkpoints[-1]
    for names in weight_steps(checkpoints):
        active = candidates(names)
        assert len({layer for layer, _ in active}) == len(active), "two candidates of one layer changed"
        for (layer, candidate), seen in active.items():
            prefix = f"supernet.layers.{layer}.candidates.{candidate}."
            assert seen == {name for name in last if name.startswith(prefix)}
            assert any(name.endswith(".momentum") for name in seen)
            assert any(name.endswith("running_mean") for name in seen)
        everywhere = {name for name in last if re.match(r"supernet\.(stem|head|classifier)\.", name)}
        assert everywhere <= names


@pytest.mark.parametrize("fair_share", [0.0, 0.5, 1.0])
def test_the_paths_of_weight_steps_follow_the_probabilities_as_often_as_asked(fair_share: float) -> None:
    """With one candidate at p = 1: the paper's rule trains it alone, the fair one all of them."""
    config = CONFIG.model_copy(update={"warmup_epochs": 0, "fair_share": fair_share})
    loop = new_loop(config, memory_context("search"))
    with torch.no_grad():
        for alpha in loop.architecture.alphas:
            alpha[0] = 50.0
    paths = []
    for epoch, step in product(range(60), range(STEPS)):
        loop.now.epoch, loop.now.step = epoch, step
        paths.append(loop._path())
    sizes = [len(layer.blocks) for layer in SPACE.layers()]
    drawn = len(paths) * (1 - fair_share)
    for index, size in enumerate(sizes):
        count = sum(path[index] == 0 for path in paths)
        fair = len(paths) * fair_share / size
        spread = (len(paths) * fair_share * (1 - fair_share)) ** 0.5
        assert abs(count - (drawn + fair)) <= 4 * spread
    assert max(sizes) > 1


def test_sampled_weight_paths_are_drawn_by_p() -> None:
    loop = new_loop(
        CONFIG.model_copy(update={"warmup_epochs": 0, "fair_share": 0.0}), memory_context("search")
    )
    with torch.no_grad():
        for alpha in loop.architecture.alphas:
            alpha.copy_(torch.linspace(0, 1, len(alpha)))
    counts = [torch.zeros(len(layer.blocks)) for layer in SPACE.layers()]
    for epoch, step in product(range(200), range(STEPS)):
        loop.now.epoch, loop.now.step = epoch, step
        for count, choice in zip(counts, loop._path(), strict=True):
            count[choice] += 1
    for count, p in zip(counts, loop.architecture.probabilities(), strict=True):
        if len(p) > 1:
            assert chisquare(count.double(), p * count.sum()).pvalue > 0.001
            uniform = torch.full_like(p, 1 / len(p))
            assert chisquare(count.double(), uniform * count.sum()).pvalue < 1e-6, "p is not seen to matter"


def test_alphas_change_in_architecture_steps_alone(checkpoints: list[dict[str, Tensor]]) -> None:
    steps = weight_steps(checkpoints)
    with_change = [any(name.startswith("architecture.") for name in names) for names in steps]
    # The first checkpoint has none before it to compare with.
    warm_up, search = with_change[: STEPS - 1], with_change[STEPS - 1 :]
    assert not any(warm_up)
    assert search == [step % CONFIG.architecture_every == 0 for step in range(1, STEPS + 1)]
    assert all(
        float(t.abs().max()) == 0
        for n, t in checkpoints[STEPS].items()
        if n.startswith("architecture.alphas")
    )


def test_an_architecture_step_by_pairs_moves_two_candidates_of_a_layer_and_no_other(
    by_pairs: list[dict[str, Tensor]],
) -> None:
    for index, layer in enumerate(SPACE.layers()):
        name = f"architecture.alphas.{index}"
        rows = [checkpoint[name].double().softmax(0) for checkpoint in by_pairs]
        for before, after in pairwise(rows):
            moved = int(((before - after).abs() > 1e-6).sum())
            assert moved in ((0,) if len(layer.blocks) == 1 else (0, 2))
        assert len(layer.blocks) == 1 or not torch.equal(rows[0], rows[-1])


def test_the_warm_up_takes_every_candidate_of_a_layer_equally_often(
    checkpoints: list[dict[str, Tensor]],
) -> None:
    layers = SPACE.layers()
    counts = {}
    for name, tensor in checkpoints[STEPS].items():
        if name.endswith("num_batches_tracked"):
            for key in candidates([name]):
                counts[key] = int(tensor)
    for index, layer in enumerate(layers):
        seen = [counts[index, choice] for choice, block in enumerate(layer.blocks) if block is not None]
        share = STEPS / len(layer.blocks)
        assert all(int(share) <= count <= int(share) + 1 for count in seen)
        if STEPS % len(layer.blocks) == 0:
            assert set(seen) == {share}


def test_the_warm_up_takes_each_of_n_candidates_once_in_n_steps(checkpoints: list[dict[str, Tensor]]) -> None:
    first = {
        key for key, names in candidates(checkpoints[0]).items() if any(n.endswith("momentum") for n in names)
    }
    taken = [first, *(set(candidates(names)) for names in weight_steps(checkpoints)[: STEPS - 1])]
    for index, layer in enumerate(SPACE.layers()):
        size = len(layer.blocks)
        for start in range(0, STEPS - size + 1, size):
            turn = [choice for step in taken[start : start + size] for at, choice in step if at == index]
            assert sorted(turn) == [i for i, block in enumerate(layer.blocks) if block is not None]
