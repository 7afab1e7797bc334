"""Fine-tuning a trained network for int8: a few epochs at a small learning rate, in the steps of int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stages.nn.fake_quant import FakeQuantized
from stages.nn.network import Network
from stages.training.optimisation import (
    check_loss,
    classification_loss,
    learning_rate,
    set_learning_rate,
    sgd,
)
from stages.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.stage import Context
    from stages.data.dataset import Batches

RATE = 0.01
"""Of the recipe's learning rate: the network is trained, and only finds its place among the steps."""
_LONGEST_GRADIENT = 5.0
_TOLD_EVERY = 20


def fine_tune_for_int8(
    network: Network,
    training: Batches,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    name: str,
    pretrained: bool = False,
    context: Context,
) -> Network:
    """A network with weights that stand int8 better; ``network`` itself stays as it is.

    Kernels are rounded by output channel and activations by tensor, as in the file; ``pretrained``: its rate
    is a hundredth of the recipe's for such weights. Raises TrainingDivergedError.
    """
    highest = RATE * (recipe.pretrained_rate if pretrained else recipe.learning_rate)
    recipe = recipe.model_copy(update={"learning_rate": highest})
    torch.manual_seed(seed)
    rounded = FakeQuantized(network).train()
    optimizer = sgd(rounded, recipe)
    loss_of = classification_loss(training.class_weights_K, recipe.label_smoothing)
    step, steps = 0, len(training)
    for epoch in range(epochs):
        for x_NCHW, labels in training.training(seed, epoch):
            set_learning_rate(optimizer, learning_rate(recipe, step, steps, epochs))
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(rounded(x_NCHW), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(rounded.parameters(), _LONGEST_GRADIENT)
            optimizer.step()
            step += 1
            if step % _TOLD_EVERY == 0:
                check_loss(float(loss.detach()), what=name, step=step)
                context.progress(step / steps, epochs, "epochs", f"{name} in the steps of int8")
    return rounded.plain()
