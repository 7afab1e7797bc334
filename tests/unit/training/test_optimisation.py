"""Learning rate, optimizer, averaged weights, checkpoints: the parts of both training loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy_search import SPACE
from torch import Tensor

from nasflow.base.errors import IntegrityError, TrainingDivergedError
from stages.nn.blocks import to_channels_last
from stages.nn.network import Network
from stages.training.checkpoint import pack, pack_optimizer, under, unpack, unpack_optimizer
from stages.training.optimisation import (
    AveragedWeights,
    check_finite,
    check_loss,
    classification_loss,
    learning_rate,
    set_learning_rate,
    sgd,
)
from stages.training.recipe import Recipe

NET = SPACE.network((0, 0, 0, 1))


def new_network() -> Network:
    torch.manual_seed(0)
    network = Network(NET)
    to_channels_last(network)
    return network


def memory_order(tensor: Tensor) -> list[int]:
    """Strides of the axes along which there is more than one number."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def optimizer_step(network: Network, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    x_NCHW = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network(x_NCHW).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("weights_K", [None, (0.5, 1.0, 4.0)])
def test_the_losses_of_parts_add_up_to_that_of_the_whole_batch(weights_K: tuple[float, ...] | None) -> None:
    weights = None if weights_K is None else torch.tensor(weights_K)
    loss = classification_loss(weights, 0.1)
    logits, labels = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    mixed = torch.nn.functional.one_hot(labels, 3).float()
    whole = loss(logits, labels)
    parts = sum(loss(logits[part], labels[part]) * len(labels[part]) / 8 for part in (slice(2), slice(2, 8)))
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(loss(logits, mixed), whole)


def test_without_class_weights_the_loss_is_plain_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    wanted = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.equal(classification_loss(None, 0.1)(logits, labels), wanted)


@given(
    warmup_epochs=st.floats(0, 3),
    steps=st.integers(1, 50),
    epochs=st.integers(1, 20),
    top=st.floats(1e-3, 1.0),
)
@settings(max_examples=60)
def test_the_learning_rate_rises_once_then_falls(
    warmup_epochs: float, steps: int, epochs: int, top: float
) -> None:
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup_epochs, learning_rate=top)
    rates = [learning_rate(recipe, step, steps, epochs) for step in range(steps * epochs)]
    warm_up = min(int(warmup_epochs * steps), len(rates))
    assert all(0 < rate < top * 1.000001 for rate in rates)
    assert rates[:warm_up] == sorted(rates[:warm_up])
    assert rates[warm_up:] == sorted(rates[warm_up:], reverse=True)
    if warm_up < len(rates):
        assert max(rates) == pytest.approx(top)


def test_the_learning_rate_falls_along_a_cosine() -> None:
    recipe = Recipe(warmup_epochs=0, learning_rate=0.2)
    assert learning_rate(recipe, 50, 10, 10) == pytest.approx(0.1)
    assert learning_rate(recipe, 25, 10, 10) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(recipe, 99, 10, 10) < 1e-3 * 0.2


def test_only_convolutions_and_the_dense_layers_weights_decay() -> None:
    network = new_network()
    optimizer = sgd(network, Recipe(weight_decay=0.01))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name
    set_learning_rate(optimizer, 0.3)
    assert {group["lr"] for group in optimizer.param_groups} == {0.3}


def test_averaged_weights_follow_slowly_and_early_ones_are_forgotten() -> None:
    network = new_network()
    average = AveragedWeights(network, 0.998)
    for tensor in network.state_dict().values():
        tensor.fill_(1)
    distances = []
    for _ in range(200):
        average.update()
        distances.append(max(float((t - 1).abs().max()) for t in average.tensors.values()))
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.1
    assert distances[-1] < 1e-6


def test_once_it_is_long_the_average_moves_by_its_decay() -> None:
    network = new_network()
    average = AveragedWeights(network, 0.5)
    average.updates = 10**6
    for tensor in average.tensors.values():
        tensor.zero_()
    for tensor in network.state_dict().values():
        tensor.fill_(1)
    average.update()
    assert {float(t.flatten()[0]) for t in average.tensors.values() if t.is_floating_point()} == {0.5}


def test_restored_state_has_the_values_and_the_memory_order_of_the_original() -> None:
    network = new_network()
    optimizer, average = sgd(network, Recipe()), AveragedWeights(network, 0.9)
    set_learning_rate(optimizer, 0.1)
    for _ in range(2):
        optimizer_step(network, optimizer)
        average.update()
    tensors, numbers = pack_optimizer(optimizer, "optimizer")
    tensors |= {f"average.{name}": tensor for name, tensor in average.tensors.items()}
    restored_tensors, restored_numbers = unpack(pack(tensors, numbers))

    other = new_network()
    other_optimizer, other_average = sgd(other, Recipe()), AveragedWeights(other, 0.9)
    unpack_optimizer(other_optimizer, "optimizer", restored_tensors, restored_numbers)
    other_average.restore(under("average", restored_tensors), average.updates)

    pairs: list[tuple[Tensor, Tensor]] = [
        (optimizer.state[p]["momentum_buffer"], other_optimizer.state[q]["momentum_buffer"])
        for p, q in zip(network.parameters(), other.parameters(), strict=True)
    ]
    pairs += [(average.tensors[name], other_average.tensors[name]) for name in average.tensors]
    assert any(a.ndim == 4 and not a.is_contiguous() for a, _ in pairs)
    for original, restored in pairs:
        assert torch.equal(original, restored)
        assert memory_order(original) == memory_order(restored)
    assert other_average.updates == 2


def test_adams_state_goes_through_a_checkpoint() -> None:
    rows = [torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)]
    others = [row.detach().clone().requires_grad_() for row in rows]
    optimizers = [torch.optim.Adam(parameters, lr=0.1, betas=(0.0, 0.999)) for parameters in (rows, others)]
    for _ in range(3):
        rows[0].grad = torch.tensor([1.0, -2.0, 0.0])
        optimizers[0].step()
    unpack_optimizer(optimizers[1], "adam", *unpack(pack(*pack_optimizer(optimizers[0], "adam"))))
    with torch.no_grad():
        others[0].copy_(rows[0])
    for optimizer, parameters in zip(optimizers, (rows, others), strict=True):
        parameters[0].grad = torch.tensor([0.5, 0.1, 0.3])
        optimizer.step()
    assert torch.equal(rows[0], others[0])


@given(
    numbers=st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False) | st.integers() | st.none()),
    tensors=st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=8),
        st.lists(st.floats(width=32), max_size=4),
    ),
)
@settings(max_examples=60)
def test_what_is_packed_is_unpacked(numbers: dict[str, Any], tensors: dict[str, list[float]]) -> None:
    tensors.pop("__metadata__", None)
    packed = pack({name: torch.tensor(row) for name, row in tensors.items()}, numbers)
    there, values = unpack(packed)
    assert values == numbers
    assert {name: row.numpy().tobytes() for name, row in there.items()} == {
        name: torch.tensor(row).numpy().tobytes() for name, row in tensors.items()
    }


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_other_bytes_are_no_checkpoint(payload: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"a checkpoint of {len(payload)} bytes cannot be read"):
        unpack(payload)


@given(st.data())
@settings(max_examples=60)
def test_a_truncated_checkpoint_is_told(data: st.DataObject) -> None:
    whole = pack({"weight": torch.arange(12.0)}, {"step": 3})
    with pytest.raises(IntegrityError):
        unpack(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(TrainingDivergedError, match=r"toy: the loss is .* at step 7"):
        check_loss(bad, what="toy", step=7)
    with pytest.raises(TrainingDivergedError, match="toy: second is not finite at step 7"):
        check_finite({"first": torch.ones(2), "second": torch.tensor([1.0, bad])}, what="toy", step=7)
    check_loss(1e30, what="toy", step=7)
    check_finite({"count": torch.tensor(3), "weights": torch.ones(2)}, what="toy", step=7)


def test_the_optimizer_of_all_tensors_at_once_does_what_the_plain_one_does() -> None:
    one, other = new_network(), new_network()
    quick, plain = sgd(one, Recipe()), sgd(other, Recipe())
    for group in plain.param_groups:
        group["foreach"] = False
    for optimizer, network in ((quick, one), (plain, other)):
        set_learning_rate(optimizer, 0.1)
        for _ in range(3):
            optimizer_step(network, optimizer)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
