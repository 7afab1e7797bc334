"""Fine-tuning a trained network for int8: a few epochs at a small learning rate, in the steps of int8."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.nn.fake_quant import FakeQuantized
from stages.nn.network import Network
from stages.training.checkpoint import (
    VERSION,
    check_origin,
    pack,
    pack_optimizer,
    under,
    unpack,
    unpack_optimizer,
)
from stages.training.optimisation import (
    adamw,
    check_loss,
    classification_loss,
    learning_rate,
    set_learning_rate,
)
from stages.training.recipe import Recipe
from stages.training.runtime import TrainingRuntime

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
    key: str,
    context: Context,
    runtime: TrainingRuntime,
) -> Network:
    """A network with weights that stand int8 better, on the CPU; ``network`` itself stays as it is.

    Kernels are rounded by output channel and activations by tensor, as in the file. ``training`` is on the
    runtime's device, which computes in float32: bfloat16's steps are as large as those of int8. ``name`` is
    what people read, ``key`` what the checkpoint in the context's scratch is called, from which it goes on
    with the numbers that an undisturbed training would have had. Raises TrainingDivergedError.
    """
    recipe = recipe.model_copy(update={"learning_rate": RATE * recipe.pretrained_rate})
    torch.manual_seed(seed)
    rounded = FakeQuantized(network).train()
    runtime.place(rounded)
    optimizer = adamw(rounded)
    loss_of_logits = classification_loss(training.class_weights_K, recipe.label_smoothing)
    origin = {"version": VERSION, "network": network.net.model_dump(mode="json"), "epochs": epochs}
    step, steps = 0, len(training)

    def loss_of(x_NCHW: Tensor, labels: Tensor) -> Tensor:
        return loss_of_logits(rounded(x_NCHW), labels)

    if (payload := context.scratch.load(f"{key}.checkpoint")) is not None:
        tensors, numbers = unpack(payload)
        check_origin(numbers.get("origin"), origin, context)
        rounded.load_state_dict(under("network", tensors))
        unpack_optimizer(optimizer, "optimizer", tensors, numbers["optimizer"])
        step = numbers["step"]
        context.say(f"{name} in the steps of int8: resuming at epoch {step // steps}, step {step % steps}.")

    def save() -> None:
        tensors, numbers = pack_optimizer(optimizer, "optimizer")
        tensors |= {f"network.{part}": tensor for part, tensor in rounded.state_dict().items()}
        state = {"origin": origin, "optimizer": numbers, "step": step}
        context.scratch.save(f"{key}.checkpoint", pack(tensors, state))

    kept = time.monotonic()
    for epoch in range(step // steps, epochs):
        for x_NCHW, labels in training.training(seed, epoch, first=step % steps):
            set_learning_rate(optimizer, learning_rate(recipe, step, steps, epochs))
            optimizer.zero_grad(set_to_none=True)
            loss = runtime.add_gradients(rounded, loss_of, x_NCHW, labels, parts=recipe.parts)
            optimizer.step()
            step += 1
            if step % _TOLD_EVERY == 0:
                check_loss(float(loss), what=name, step=step)
                context.progress(step / steps, epochs, "epochs", f"{name} in the steps of int8")
            if step % steps == 0 or time.monotonic() - kept > runtime.checkpoint_seconds:
                check_loss(float(loss), what=name, step=step)
                save()
                kept = time.monotonic()
    return rounded.plain()
