"""Train one network: warm-up and cosine, label smoothing, averaged weights, the best epoch kept.

From published weights only a part of the way is gone (:mod:`stages.training.partway`).

Device, precision and backward are the runtime's (:mod:`stages.training.runtime`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nasflow.base.errors import MachineError, RunInterruptedError, TrainingDivergedError
from pipeline import signals
from pipeline.stage import Context
from stages.data.dataset import Batches
from stages.documents import ComputeCost, EpochPoint, MadeBy
from stages.nn.kept_statistics import keep_statistics
from stages.nn.network import Network, save_state
from stages.training.checkpoint import (
    VERSION,
    check_origin,
    pack,
    pack_optimizer,
    under,
    unpack,
    unpack_optimizer,
)
from stages.training.cost import ComputeClock
from stages.training.distillation import Distillation
from stages.training.drop_path import DropPath
from stages.training.makers import Makers
from stages.training.optimisation import (
    AveragedWeights,
    Losses,
    check_finite,
    classification_loss,
    evaluate,
    learning_rate,
    optimizer_of,
    set_learning_rate,
)
from stages.training.partway import Kept, best_on_the_way
from stages.training.recipe import Recipe
from stages.training.runtime import TrainingRuntime

EMA_EVERY = 4
READ_EVERY = 20
"""Steps between two readings of their losses from the device."""


@dataclass(frozen=True)
class Trained:
    """The outcome of :func:`train`: averaged weights of the best epoch by validation accuracy.

    With ``data.balance`` that is the balanced accuracy, in the curve as well.
    ``kept``: of a network that descends from published weights, what was taken on the way to that epoch's.
    """

    weights: bytes
    curve: tuple[EpochPoint, ...]
    best_epoch: int
    images_seen: int
    compute_cost: ComputeCost | None
    made_by: tuple[MadeBy, ...]
    kept: Kept | None = None

    @property
    def validation_accuracy_percent(self) -> float:
        """Validation accuracy of the weights."""
        if self.kept is not None:
            return self.kept.validation_accuracy_percent
        return self.curve[self.best_epoch].validation_accuracy_percent


def train(
    network: Network,
    training: Batches,
    validation: Batches,
    recipe: Recipe,
    *,
    seed: int,
    name: str,
    context: Context,
    runtime: TrainingRuntime,
    pretrained: bool = False,
) -> Trained:
    """Train ``network`` and return its best averaged weights.

    ``pretrained``: its weights are not fresh, but published ones (:mod:`stages.nn.kept_statistics`).
    Goes on from the checkpoint ``name`` in the context's scratch, if there is one, with the very
    numbers that an undisturbed training would have had. Raises TrainingDivergedError.
    """
    run = _Run(network, training, validation, recipe, seed, name, context, runtime, pretrained)
    return run.to_the_end()


@dataclass
class _Progress:
    """Where the training stands; part of the checkpoint."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    ema_updates: int = 0
    best_epoch: int = -1


@dataclass
class _Run:
    network: Network
    training: Batches
    validation: Batches
    recipe: Recipe
    seed: int
    name: str
    context: Context
    runtime: TrainingRuntime
    pretrained: bool = False

    def __post_init__(self) -> None:
        self.compute_cost = ComputeClock(self.runtime.device)
        self.makers = Makers(self.runtime)
        if self.pretrained:
            keep_statistics(self.network)
            self.recipe = self.recipe.model_copy(update={"learning_rate": self.recipe.pretrained_rate})
        self.runtime.place(self.network)
        began = self.network.state_dict() if self.pretrained else {}
        self.start = {name: tensor.clone() for name, tensor in began.items()}
        self.optimizer = optimizer_of(self.network, self.recipe, pretrained=self.pretrained)
        self.average = AveragedWeights(self.network, self.recipe.ema_decay)
        self.loss = classification_loss(self.training.class_weights_K, self.recipe.label_smoothing)
        self.teacher: Distillation | None = None
        if (teacher := self.recipe.teacher.load()) is not None:
            self.runtime.place(teacher)
            self.teacher = Distillation(teacher, self.recipe.teacher)
        self.drop_path = DropPath(self.network, self.recipe.drop_path, self.seed)
        self.losses = Losses(self.name)
        self._since = time.monotonic()
        self.now = _Progress()
        self.curve: list[EpochPoint] = []
        self.best: dict[str, Tensor] = {}
        self.steps = len(self.training)
        self._restore()

    def to_the_end(self) -> Trained:
        try:
            while len(self.curve) < self.recipe.epochs:
                self._take_steps()
                self._close_epoch()
        except RunInterruptedError:
            # A fault of the disk, or weights that are no numbers, must not hide what ended the run.
            with suppress(MachineError, TrainingDivergedError):
                self._save()
            raise
        weights, kept = save_state(self.best), None
        if self.pretrained:
            weights, kept = best_on_the_way(
                self.network.net, self.start, self.best, self.validation, self.runtime
            )
        return Trained(
            weights=weights,
            curve=tuple(self.curve),
            best_epoch=self.now.best_epoch,
            images_seen=len(self.curve) * self.steps * self.training.batch_size,
            compute_cost=self.compute_cost.total(),
            made_by=self.makers.all,
            kept=kept,
        )

    @property
    def _total_step(self) -> int:
        return self.now.epoch * self.steps + self.now.step

    def _rate(self, step: int) -> float:
        return learning_rate(self.recipe, step, self.steps, self.recipe.epochs)

    def _take_steps(self) -> None:
        ema_every = min(EMA_EVERY, self.steps)
        self._since = kept = time.monotonic()
        self.network.train()
        for x_NCHW, labels in self.training.training(self.seed, self.now.epoch, first=self.now.step):
            with signals.deferred():  # a step is done whole or not at all: what is kept then is consistent
                self._step(x_NCHW, labels)
                if self.now.step % ema_every == 0:
                    self.average.update()
            if time.monotonic() - kept > self.runtime.checkpoint_seconds:
                self._save()
                kept = time.monotonic()
            if self.now.step % READ_EVERY == 0:
                self.now.loss_sum = self.losses.add_to(self.now.loss_sum)
                done = self.now.epoch + self.now.step / self.steps
                note = f"{self.name} loss {self.losses.last:.3f}"
                self.context.progress(done, self.recipe.epochs, "epochs", note)

    def _step(self, x_NCHW: Tensor, labels: Tensor) -> None:
        set_learning_rate(self.optimizer, self._rate(self._total_step))
        self.optimizer.zero_grad(set_to_none=True)
        batch_size = self.training.batch_size
        self.drop_path.begin_step(self._total_step, self.runtime.sharing.of(batch_size), batch_size)
        loss = self.runtime.add_gradients(
            self.network,
            self._loss,
            x_NCHW,
            labels,
            batch_size=batch_size,
            parts=self.recipe.parts,
        )
        self.losses.add(loss, self._total_step)
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.now.step += 1

    def _loss(self, x_NCHW: Tensor, labels: Tensor) -> Tensor:
        logits = self.network(x_NCHW)
        loss: Tensor = self.loss(logits, labels)
        return loss if self.teacher is None else self.teacher.loss(x_NCHW, logits, loss)

    def _add_time(self) -> None:
        now = time.monotonic()
        self.now.seconds += now - self._since
        self._since = now

    def _close_epoch(self) -> None:
        self._add_time()
        self.now.loss_sum = self.losses.add_to(self.now.loss_sum)
        evaluated = Network(self.network.net)
        evaluated.load_state_dict(self.average.tensors)
        self.runtime.place(evaluated)
        accuracy = evaluate(
            evaluated,
            self.validation.in_order(),
            self.runtime.sums,
            class_weights_K=self.validation.evaluation_weights_K,
        ).accuracy_percent
        self._since = time.monotonic()
        with signals.deferred():
            self._begin_epoch(accuracy)
            self._save()

    def _begin_epoch(self, accuracy: float) -> None:
        """Note what the epoch that ends came to, and go on to the next."""
        now = self.now
        point = EpochPoint(
            epoch=now.epoch,
            learning_rate=self._rate(self._total_step - 1),
            train_loss=now.loss_sum / self.steps,
            validation_accuracy_percent=accuracy,
            seconds=now.seconds,
        )
        self.curve.append(point)
        if now.best_epoch < 0 or accuracy > self.curve[now.best_epoch].validation_accuracy_percent:
            now.best_epoch = now.epoch
            self.best = {name: tensor.clone() for name, tensor in self.average.tensors.items()}
        self.context.metric(f"{self.name} training loss", point.train_loss, now.epoch)
        self.context.metric(f"{self.name} validation accuracy %", accuracy, now.epoch)
        self.now = _Progress(epoch=now.epoch + 1, best_epoch=now.best_epoch)

    def _save(self) -> None:
        self._add_time()
        self.now.loss_sum = self.losses.add_to(self.now.loss_sum)
        check_finite(self.network.state_dict(), what=self.name, step=self._total_step)
        self.now.ema_updates = self.average.updates
        tensors, numbers = pack_optimizer(self.optimizer, "optimizer")
        tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        curve = [point.model_dump() for point in self.curve]
        state = {
            "origin": self._origin(),
            "now": vars(self.now),
            "compute_cost": self.compute_cost.state(),
            "made_by": self.makers.state(),
            "curve": curve,
            "optimizer": numbers,
        }
        self.context.scratch.save(f"{self.name}.checkpoint", pack(tensors, state))

    def _origin(self) -> dict[str, Any]:
        """What a checkpoint must have been made by, for this training to go on from it."""
        return {"version": VERSION, "network": self.network.net.model_dump(mode="json")}

    def _restore(self) -> None:
        payload = self.runtime.of_first(self.context.scratch.load(f"{self.name}.checkpoint"))
        if payload is None:
            return
        tensors, state = unpack(payload)
        check_origin(state.get("origin"), self._origin(), self.context)
        self.now = now = _Progress(**state["now"])
        self.compute_cost.restore(state.get("compute_cost"))
        self.curve = [EpochPoint.model_validate(point) for point in state["curve"]]
        finished = len(self.curve) == self.recipe.epochs
        self.makers.resume(state.get("made_by"), self.name, self.context, finished=finished)
        self.network.load_state_dict(under("network", tensors))
        self.average.restore(under("average", tensors), now.ema_updates)
        # A checkpoint is read into the processor's memory.
        self.best = {name: t.to(self.runtime.device) for name, t in under("best", tensors).items()}
        unpack_optimizer(self.optimizer, "optimizer", tensors, state["optimizer"])
        self.context.say(f"{self.name}: resuming at epoch {now.epoch}, step {now.step}.")
