"""What both training loops share: device, optimizer, learning rate, averaged weights, checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasflow.base.errors import TrainingDivergedError
from stages.training.recipe import Recipe

ADAMW_DECAY = 0.01
Loss = Callable[[Tensor, Tensor], Tensor]


def optimizer_of(module: nn.Module, recipe: Recipe, *, pretrained: bool = False) -> torch.optim.Optimizer:
    """SGD, or AdamW for pretrained weights. BN parameters and biases are not decayed; the rate is 0 at first.

    All tensors in one call (``foreach``). PyTorch's fused way, as fast, refuses a supernet, of whose weights
    some have no momentum yet.
    """
    return adamw(module) if pretrained else sgd(module, recipe)


def sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum."""
    groups = _groups(module, recipe.weight_decay)
    return torch.optim.SGD(
        groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0, foreach=True
    )


def adamw(module: nn.Module) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101).

    Where batch normalisation keeps its statistics, the gradients of channels with a small variance are larger
    than others by orders of magnitude: SGD diverges at rates at which the other channels hardly learn.
    """
    return torch.optim.AdamW(_groups(module, ADAMW_DECAY), lr=0.0, foreach=True)


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Linear warm-up, then half a cosine that would reach zero one step after the last."""
    warm_up = int(recipe.warmup_epochs * steps_per_epoch)
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, epochs * steps_per_epoch - warm_up)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameter groups one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def check_loss(loss: float, *, what: str, step: int) -> None:
    """Raises TrainingDivergedError where a loss is no longer a number."""
    if not math.isfinite(loss):
        raise _diverged(f"the loss is {loss}", what=what, step=step)


def classification_loss(class_weights_K: Tensor | None, label_smoothing: float) -> Loss:
    """Cross entropy of logits (N, K) and labels, (N,) or (N, K); the mean over the images.

    With class weights, PyTorch's mean over labels (N,) divides by the weights in the batch: parts of a batch,
    or of several processes, would then not add up to what the whole gives.
    """
    if class_weights_K is None:
        return nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    each = nn.CrossEntropyLoss(weight=class_weights_K, label_smoothing=label_smoothing, reduction="none")

    def mean(logits: Tensor, labels: Tensor) -> Tensor:
        losses_N: Tensor = each(logits, labels)
        return losses_N.mean()

    return mean


class Losses:
    """The losses of steps, read from the device a few at a time: it would stand still at each reading."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._waiting: list[tuple[int, Tensor]] = []
        self.last = math.nan

    def add(self, loss: Tensor, step: int) -> None:
        """That of one step, a scalar; nothing is read yet."""
        self._waiting.append((step, loss.detach()))

    def add_to(self, total: float) -> float:
        """``total`` and those added since the last reading, one by one: the sum of all steps does not depend
        on when they are read.

        Raises TrainingDivergedError with the first step whose loss is no longer a number.
        """
        if not self._waiting:
            return total
        values = torch.stack([loss.double() for _, loss in self._waiting]).tolist()
        for (step, _), value in zip(self._waiting, values, strict=True):
            check_loss(value, what=self._what, step=step)
            total += value
        self._waiting.clear()
        self.last = values[-1]
        return total


def check_finite(tensors: Mapping[str, Tensor], *, what: str, step: int) -> None:
    """Raises TrainingDivergedError where a tensor holds NaN or infinity.

    A loss tells of bad weights one step late: a checkpoint that was saved between the two would
    be kept as the last good one.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise _diverged(f"{name} is not finite", what=what, step=step)


def _diverged(seen: str, *, what: str, step: int) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"{what}: {seen} at step {step}; the last good checkpoint is kept.",
        step=step,
        hint="Lower the stage's learning_rate (halve it), and run again.",
    )


class AveragedWeights:
    """Exponential moving average of weights and BN statistics.

    Early on the average is short ((1 + n) / (10 + n), as in TensorFlow's), so that it is never
    dominated by the first, random weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        present = network.state_dict()  # shares its memory with the network, which is changed in place
        self.tensors = {name: tensor.detach().clone() for name, tensor in present.items()}
        numbers = [name for name, tensor in present.items() if tensor.is_floating_point()]
        self._averaged = [self.tensors[name] for name in numbers]
        self._present = [present[name] for name in numbers]
        self._counts = [(self.tensors[name], present[name]) for name in present.keys() - set(numbers)]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights."""
        self.updates += 1
        share = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._averaged, self._present, share)
        for kept, count in self._counts:
            kept.copy_(count)

    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """From a checkpoint, onto the device and into the memory order of the network."""
        self.updates = updates
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of some images: share of right answers in percent, mean cross entropy in nats.

    With class weights both are means of weighted images.
    """

    accuracy_percent: float
    loss: float


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: Iterable[tuple[Tensor, Tensor]],
    sums: Callable[[Sequence[float]], Sequence[float]] = lambda values: values,
    *,
    class_weights_K: Tensor | None = None,
) -> Evaluation:
    """Accuracy and loss on all of ``images``, in eval mode.

    ``sums`` adds up over the processes that have a share of the images each. ``class_weights_K``: how much an
    image of each class counts, with the mean 1 over all images; None: all the same. Where they are the
    inverse of the classes' shares, the accuracy is the balanced one.
    """
    was_training = network.training
    network.eval()
    right: list[Tensor] = []
    losses: list[Tensor] = []
    total = 0
    for x_NCHW, labels_N in images:
        logits = network(x_NCHW)
        hits_N = logits.argmax(1) == labels_N
        right.append((hits_N if class_weights_K is None else hits_N * class_weights_K[labels_N]).sum())
        losses.append(nn.functional.cross_entropy(logits, labels_N, weight=class_weights_K, reduction="sum"))
        total += len(labels_N)
    network.train(was_training)
    # Read from the device once, at the end.
    loss = sum(torch.stack(losses).tolist()) if losses else 0.0
    correct = sum(torch.stack(right).tolist()) if right else 0
    correct_sum, loss_sum, images_sum = sums((correct, loss, total))
    return Evaluation(100.0 * correct_sum / images_sum, loss_sum / images_sum)


def accuracy_percent(network: nn.Module, images: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of right answers in percent, in eval mode."""
    return evaluate(network, images).accuracy_percent
