"""Train one network: warm-up and cosine, label smoothing, averaged weights, the best epoch kept.

Lightning Fabric owns device, precision and backward, so that a GPU needs no other loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import lightning_fabric
import torch
from torch import Tensor, nn

from nasflow.errors import TrainingDiverged
from pipeline.stage import Context
from stages.documents import EpochPoint
from stages.nn.blocks import to_channels_last
from stages.nn.network import Network, load_weights, save_weights
from stages.training.batches import Batches, derived_seed
from stages.training.checkpoint import pack, pack_optimizer, under, unpack, unpack_optimizer
from stages.training.recipe import Recipe

EMA_EVERY = 4
CHECKPOINT_SECONDS = 20.0


def make_fabric(seed: int) -> lightning_fabric.Fabric:
    """One device, the best there is, float32; the global random state set."""
    torch.manual_seed(derived_seed(seed))
    fabric = lightning_fabric.Fabric(accelerator="auto", devices=1)
    fabric.launch()
    return fabric


def sgd(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; BN parameters and biases are not decayed."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
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
    """Raises TrainingDiverged where a loss is no longer a number."""
    if not math.isfinite(loss):
        raise _diverged(f"the loss is {loss}", what=what, step=step)


def check_finite(tensors: Mapping[str, Tensor], *, what: str, step: int) -> None:
    """Raises TrainingDiverged where a tensor holds NaN or infinity.

    A loss tells of bad weights one step late: a checkpoint that was saved between the two would
    be kept as the last good one.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise _diverged(f"{name} is not finite", what=what, step=step)


def _diverged(seen: str, *, what: str, step: int) -> TrainingDiverged:
    return TrainingDiverged(
        f"{what}: {seen} at step {step}; the last good checkpoint is kept.",
        step=step,
        hint="Lower the stage's learning_rate (halve it), or raise warmup_epochs, and run again.",
    )


class AveragedWeights:
    """Exponential moving average of weights and BN statistics.

    Early on the average is short ((1 + n) / (10 + n), as in TensorFlow's), so that it is never
    dominated by the first, random weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the present weights."""
        self.updates += 1
        share = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, share)
            else:
                self.tensors[name].copy_(tensor)

    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """From a checkpoint, onto the device and into the memory order of the network."""
        self.updates = updates
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


@torch.no_grad()
def accuracy_percent(network: nn.Module, images: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of right answers in percent, in eval mode."""
    was_training = network.training
    network.eval()
    right = total = 0
    for x_NCHW, labels_N in images:
        right += int((network(x_NCHW).argmax(1) == labels_N).sum())
        total += len(labels_N)
    network.train(was_training)
    return 100.0 * right / total


@dataclass(frozen=True)
class Trained:
    """The outcome of :func:`train`: averaged weights of the best epoch by validation accuracy."""

    weights: bytes
    curve: tuple[EpochPoint, ...]
    best_epoch: int
    images_seen: int

    @property
    def validation_accuracy_percent(self) -> float:
        """Validation accuracy at the best epoch."""
        return self.curve[self.best_epoch].validation_accuracy_percent


@dataclass
class _Progress:
    """Where the training stands; part of the checkpoint."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    ema_updates: int = 0
    best_epoch: int = -1


def train(
    network: Network,
    training: Batches,
    validation: Batches,
    recipe: Recipe,
    *,
    seed: int,
    name: str,
    context: Context,
    fabric: lightning_fabric.Fabric,
) -> Trained:
    """Train ``network`` and return its best averaged weights.

    Goes on from the checkpoint ``name`` in the context's scratch, if there is one, with the very
    numbers that an undisturbed training would have had. Raises TrainingDiverged.
    """
    run = _Run(network, training, validation, recipe, seed=seed, name=name, context=context, fabric=fabric)
    return run.to_the_end()


class _Run:
    def __init__(
        self,
        network: Network,
        training: Batches,
        validation: Batches,
        recipe: Recipe,
        *,
        seed: int,
        name: str,
        context: Context,
        fabric: lightning_fabric.Fabric,
    ) -> None:
        self.raw = network
        to_channels_last(network)
        self.validation, self.training, self.recipe = validation, training, recipe
        self.seed, self.name, self.context, self.fabric = seed, name, context, fabric
        self.module, self.optimizer = fabric.setup(network, sgd(network, recipe))
        self.average = AveragedWeights(self.raw, recipe.ema_decay)
        self.now = _Progress()
        self.curve: list[EpochPoint] = []
        self.best_weights: bytes | None = None
        self._restore()

    def to_the_end(self) -> Trained:
        while not self._finished():
            self._epoch()
        assert self.best_weights is not None
        return Trained(
            weights=self.best_weights,
            curve=tuple(self.curve),
            best_epoch=self.now.best_epoch,
            images_seen=len(self.curve) * len(self.training) * self.training.batch_size,
        )

    def _finished(self) -> bool:
        return len(self.curve) >= self.recipe.epochs

    def _epoch(self) -> None:
        epoch, steps = self.now.epoch, len(self.training)
        torch.manual_seed(derived_seed(self.seed, epoch, self.now.step))
        started, saved = time.monotonic(), time.monotonic()
        self.module.train()
        smoothing = self.recipe.label_smoothing
        for x_NCHW, labels_N in self.training.training(self.seed, epoch, first=self.now.step):
            set_learning_rate(self.optimizer, self._rate(epoch * steps + self.now.step))
            self.optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(self.module(x_NCHW), labels_N, label_smoothing=smoothing)
            value = float(loss.detach())
            check_loss(value, what=self.name, step=epoch * steps + self.now.step)
            self.fabric.backward(loss)
            self.optimizer.step()
            self.now.loss_sum += value
            self.now.step += 1
            if self.now.step % min(EMA_EVERY, steps) == 0:
                self.average.update(self.raw)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(time.monotonic() - started)
                started = saved = time.monotonic()
            if self.now.step % 20 == 0:
                done = epoch + self.now.step / steps
                self.context.progress(done, self.recipe.epochs, "epochs", f"{self.name} loss {value:.3f}")
        self._close_epoch(time.monotonic() - started)

    def _rate(self, step: int) -> float:
        return learning_rate(self.recipe, step, len(self.training), self.recipe.epochs)

    def _close_epoch(self, seconds: float) -> None:
        judged = Network(self.raw.net)
        judged.load_state_dict(self.average.tensors)
        judged.to(self.fabric.device)
        to_channels_last(judged)
        accuracy = accuracy_percent(judged, self.validation.in_order())
        self.curve.append(
            EpochPoint(
                epoch=self.now.epoch,
                learning_rate=self._rate((self.now.epoch + 1) * len(self.training) - 1),
                train_loss=self.now.loss_sum / max(1, self.now.step),
                validation_accuracy_percent=accuracy,
                seconds=self.now.seconds + seconds,
            )
        )
        if (
            self.best_weights is None
            or accuracy > self.curve[self.now.best_epoch].validation_accuracy_percent
        ):
            self.now.best_epoch = self.now.epoch
            self.best_weights = save_weights(judged)
        self.context.metric(f"{self.name} validation accuracy %", accuracy, self.now.epoch)
        self.now.epoch += 1
        self.now.step, self.now.loss_sum, self.now.seconds = 0, 0.0, 0.0
        self._save(0.0)

    def _save(self, seconds: float) -> None:
        step = self.now.epoch * len(self.training) + self.now.step
        check_finite(self.raw.state_dict(), what=self.name, step=step)
        self.now.seconds += seconds
        self.now.ema_updates = self.average.updates
        tensors, numbers = pack_optimizer(self.optimizer, "optimizer")
        tensors |= {f"network.{name}": tensor for name, tensor in self.raw.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        curve = [point.model_dump() for point in self.curve]
        state = {"now": vars(self.now), "curve": curve, "optimizer": numbers}
        # The best weights are written first: a checkpoint never points to weights that are not there.
        if self.best_weights is not None:
            self.context.scratch.save(f"{self.name}.best-{self.now.best_epoch}", self.best_weights)
        self.context.scratch.save(f"{self.name}.checkpoint", pack(tensors, state))

    def _restore(self) -> None:
        payload = self.context.scratch.load(f"{self.name}.checkpoint")
        if payload is None:
            return
        tensors, state = unpack(payload)
        now = _Progress(**state["now"])
        best = self.context.scratch.load(f"{self.name}.best-{now.best_epoch}")
        if now.best_epoch >= 0 and best is None:
            return  # scratch has warned that it is damaged: train again from the start
        self.now, self.best_weights = now, best
        self.curve = [EpochPoint.model_validate(point) for point in state["curve"]]
        self.raw.load_state_dict(under("network", tensors))
        self.average.restore(under("average", tensors), now.ema_updates)
        unpack_optimizer(self.optimizer, "optimizer", tensors, state["optimizer"])
        self.context.say(f"{self.name}: going on at epoch {now.epoch}, step {now.step}.")


__all__ = ["Trained", "load_weights", "make_fabric", "train"]
