"""Drop path: how often blocks are left out, what is expected, what is stored, and that a training goes on."""

from __future__ import annotations

import pytest
import torch
from support.memory_context import memory_context
from support.toy_search import EACH_STEP, Stopped, StoppingScratch
from torch import Tensor, nn

from pipeline.stage import Context
from stages.data.config import DataConfig, open_dataset
from stages.nn.blocks import MBConv
from stages.nn.network import Network, load_network
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.training.drop_path import DropPath
from stages.training.loop import Trained, train
from stages.training.recipe import Recipe
from stages.training.runtime import start_runtime

NET = mobilenet_v2(resolution=32, classes=10, width=0.35)
BATCH = 400
WHOLE = slice(0, BATCH)


def residual_blocks(network: Network) -> list[tuple[int, MBConv]]:
    return [(i, b) for i, b in enumerate(network.blocks) if isinstance(b, MBConv) and b.residual]


def branches(network: Network, x_NCHW: Tensor) -> list[Tensor]:
    """What each residual block adds."""
    seen: list[Tensor] = []
    hooks = [
        block.layers.register_forward_hook(lambda _module, _input, out: seen.append(out.detach()))
        for _, block in residual_blocks(network)
    ]
    network(x_NCHW)
    for hook in hooks:
        hook.remove()
    return seen


def test_blocks_are_left_out_for_single_images_more_often_the_deeper_they_are() -> None:
    torch.manual_seed(0)
    network = Network(NET).train()
    drop, last = DropPath(network, 0.5, seed=1), len(network.blocks) - 1
    drop.begin_step(0, WHOLE, BATCH)
    for (depth, _), out in zip(
        residual_blocks(network), branches(network, torch.randn(BATCH, 3, 32, 32)), strict=True
    ):
        left_out = float((out.flatten(1) == 0).all(1).float().mean())
        assert left_out == pytest.approx(0.5 * depth / last, abs=0.08)


def test_on_average_over_steps_a_block_adds_what_it_adds_in_evaluation() -> None:
    torch.manual_seed(0)
    network = Network(NET)
    depth, block = residual_blocks(network)[-1]
    block.layers = nn.Sequential(nn.Identity())
    drop = DropPath(network, 0.5, seed=1)
    out_NCHW = torch.ones(BATCH, 1, 1, 1)
    rate = 0.5 * depth / (len(network.blocks) - 1)
    block.layers.train()
    sums = torch.zeros_like(out_NCHW)
    for step in range(100):
        drop.begin_step(step, WHOLE, BATCH)
        scaled = block.layers(out_NCHW)
        assert all(
            value == pytest.approx(0) or value == pytest.approx(1 / (1 - rate))
            for value in scaled.unique().tolist()
        )
        sums += scaled
    assert float(sums.mean()) / 100 == pytest.approx(1, abs=0.02)
    block.layers.eval()
    assert torch.equal(block.layers(out_NCHW), out_NCHW)


def test_in_evaluation_nothing_is_left_out_and_no_weight_is_added() -> None:
    torch.manual_seed(0)
    network, plain = Network(NET), Network(NET)
    plain.load_state_dict(network.state_dict())
    DropPath(network, 0.9, seed=0)
    assert list(network.state_dict()) == list(plain.state_dict())
    x_NCHW = torch.randn(4, 3, 32, 32)
    assert torch.equal(network.eval()(x_NCHW), plain.eval()(x_NCHW))


def test_shares_and_parts_of_a_batch_leave_out_what_the_whole_does() -> None:
    torch.manual_seed(0)
    networks = Network(NET).train(), Network(NET).train()
    x_NCHW = torch.randn(10, 3, 32, 32)

    def kept(network: Network, parts: tuple[Tensor, ...]) -> Tensor:
        outs = [branches(network, part) for part in parts]
        return torch.stack(
            [torch.cat([(o.flatten(1) != 0).any(1) for o in out]) for out in zip(*outs, strict=True)]
        )

    whole, shared = (DropPath(network, 0.8, seed=5) for network in networks)
    whole.begin_step(3, slice(0, 10), 10)
    shared.begin_step(3, slice(4, 10), 10)
    assert torch.equal(kept(networks[0], (x_NCHW,))[:, 4:], kept(networks[1], x_NCHW[4:].tensor_split(3)))


@pytest.mark.parametrize("parts", [1, 3, 16])
def test_a_batch_may_have_fewer_images_than_parts(parts: int) -> None:
    """The mean loss of a part without images is no number."""
    torch.manual_seed(0)
    network, x_NCHW, labels = Network(NET).eval(), torch.randn(4, 3, 32, 32), torch.arange(4)

    def loss_of(x: Tensor, of: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(network(x), of)

    loss = start_runtime(0).add_gradients(network, loss_of, x_NCHW, labels, parts=parts)
    assert float(loss) == pytest.approx(loss_of(x_NCHW, labels).item(), rel=1e-5)


def trained(context: Context, checkpoint_seconds: float, drop_path: float = 0.4) -> Trained:
    data, runtime = (
        DataConfig(train_images=250, architecture_images=100),
        start_runtime(0, checkpoint_seconds=checkpoint_seconds),
    )
    torch.manual_seed(0)
    return train(
        Network(NET),
        runtime.batches(open_dataset(data).load("train"), 50),
        runtime.batches(open_dataset(data).load("choice"), 500),
        Recipe(epochs=1, batch_size=50, parts=2, drop_path=drop_path),
        seed=3,
        name="toy",
        context=context,
        runtime=runtime,
    )


def test_a_stopped_training_ends_with_the_same_bits() -> None:
    undisturbed = trained(memory_context("finetune"), 1e9)
    context = memory_context("finetune", scratch=StoppingScratch(stop_at=3))
    with pytest.raises(Stopped):
        trained(context, EACH_STEP)
    again = trained(context, EACH_STEP)
    assert again.weights == undisturbed.weights
    load_network(NET, again.weights)
    assert again.weights != trained(memory_context("finetune"), 1e9, drop_path=0.0).weights


def test_a_recipe_without_it_is_the_recipe_that_it_was() -> None:
    assert "drop_path" not in Recipe().model_dump()
    assert Recipe(drop_path=0.1).model_dump()["drop_path"] == 0.1
