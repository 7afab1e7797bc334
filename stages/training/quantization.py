"""Fine-tuning a trained network for int8: a few epochs at a small learning rate, in the steps of int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stages.nn.fake_quant import FakeQuantized
from stages.nn.network import Network
from stages.training.optimisation import (
    adamw,
    check_loss,
    classification_loss,
    learning_rate,
    set_learning_rate,
)
from stages.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.stage import Context
    from stages.data.dataset import Batches

RATE = 0.1
"""Of the recipe's rate for pretrained weights (AdamW): the network only finds its place among the steps.

SGD at a hundredth of its rate is worse: with batch normalisation folded, kernels of very different sizes
stand side by side. On a MobileNetV2 that int8 cost 0.9 points, 80 steps of AdamW at 3e-5 won 0.8 of them
back; SGD at 1e-3 lost 0.7 more.
"""
_TOLD_EVERY = 20


def fine_tune_for_int8(
    network: Network,
    training: Batches,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    name: str,
    context: Context,
) -> Network:
    """A network with weights that stand int8 better; ``network`` itself stays as it is.

    Kernels are rounded by output channel and activations by tensor, as in the file. Raises
    TrainingDivergedError.
    """
    recipe = recipe.model_copy(update={"learning_rate": RATE * recipe.pretrained_rate})
    torch.manual_seed(seed)
    rounded = FakeQuantized(network).train()
    optimizer = adamw(rounded)
    loss_of = classification_loss(training.class_weights_K, recipe.label_smoothing)
    step, steps = 0, len(training)
    for epoch in range(epochs):
        for x_NCHW, labels in training.training(seed, epoch):
            set_learning_rate(optimizer, learning_rate(recipe, step, steps, epochs))
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(rounded(x_NCHW), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step % _TOLD_EVERY == 0:
                check_loss(float(loss.detach()), what=name, step=step)
                context.progress(step / steps, epochs, "epochs", f"{name} in the steps of int8")
    return rounded.plain()
