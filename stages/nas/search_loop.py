"""The search's loop: weight steps on training images, architecture steps on validation images.

ProxylessNAS, arXiv 1812.00332, with what later work found necessary for short searches: a fair warm-up
(every candidate of a layer equally often; on request to the end). How probabilities are learned is a matter
of :mod:`stages.nas.estimators`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasflow.base.errors import MachineError, RunInterruptedError, TrainingDivergedError
from pipeline import signals
from pipeline.stage import Context
from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import Batches
from stages.documents import LatencyModel, SearchResult
from stages.nas.architecture import Architecture
from stages.nas.config import SearchConfig, check_architecture_steps
from stages.nas.estimators import make_estimator
from stages.nas.estimators.base import Estimator, Searched, averaged
from stages.nas.latency_window import LatencyTarget
from stages.nas.sandwich import sandwich_loss
from stages.nas.schedule import weights_rate, weights_recipe
from stages.nas.search_record import SearchPhase, epoch_point, search_result, tell_epoch
from stages.nas.search_state import Progress, SearchState
from stages.nas.targets import latency_targets, path_costs_ms
from stages.nn.kept_statistics import keep_statistics
from stages.nn.supernet import Supernet
from stages.seeds import SearchStream, derived_seed
from stages.space.search_space import SearchSpace
from stages.training.checkpoint import VERSION
from stages.training.cost import ComputeClock
from stages.training.loop import READ_EVERY
from stages.training.makers import Makers
from stages.training.optimisation import (
    Losses,
    check_finite,
    check_loss,
    classification_loss,
    optimizer_of,
    set_learning_rate,
)
from stages.training.runtime import CHECKPOINT_SECONDS, Precision, TrainingRuntime, start_runtime
from stages.training.starting import FittedStart
from stages.training.task import data_as_json

CHECKPOINT = "search.checkpoint"
WARMUP_PROBES = 8


def run_search(
    config: SearchConfig,
    space: SearchSpace,
    data: DataConfig,
    seed: int,
    *,
    latency: LatencyModel,
    targets_ms: Sequence[float],
    minimum_share: float,
    context: Context,
    precision: Precision = "32",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> SearchResult:
    """Search the space, or go on from the checkpoint in the context's scratch.

    An interrupted search ends with the same numbers as an undisturbed one: all that is random is
    drawn from (seed, epoch, step), and the checkpoint holds the rest. Raises TrainingDivergedError.
    """
    runtime = start_runtime(seed, precision=precision, checkpoint_seconds=checkpoint_seconds, together=True)
    runtime.tell(
        "search",
        config=config.model_dump(mode="json"),
        space=space.model_dump(mode="json"),
        data=data_as_json(data),
        seed=seed,
        latency=latency.model_dump(mode="json"),
        targets_ms=list(targets_ms),
        minimum_share=minimum_share,
        precision=precision,
        checkpoint_seconds=checkpoint_seconds,
    )
    training, validation = (open_dataset(data).load(part) for part in ("train", "architecture"))
    loop = SearchLoop(
        config,
        space,
        seed,
        architecture_of(space, latency),
        latency_targets(space, latency, targets_ms, minimum_share),
        context,
        runtime,
        runtime.batches(training, config.batch_size),
        runtime.batches(validation, config.architecture_batch_size),
    )
    if space.pretrained is not None and not loop.begun:
        context.say("fitting all candidates to the pretrained network's blocks.")
        FittedStart(space, data, seed).fill(loop.supernet)
    return loop.to_the_end()


@dataclass
class SearchLoop:
    """A search and its two kinds of steps; :func:`run_search` takes them in turn.

    ``architecture`` is that of ``space``; ``training`` and ``validation`` are on the device of ``runtime``.
    """

    config: SearchConfig
    space: SearchSpace
    seed: int
    architecture: Architecture
    targets: Sequence[LatencyTarget]
    context: Context
    runtime: TrainingRuntime
    training: Batches
    validation: Batches

    def __post_init__(self) -> None:
        config = self.config
        self.compute_cost = ComputeClock(self.runtime.device)
        self.makers = Makers(self.runtime)
        self.epochs = config.warmup_epochs + config.epochs
        self.supernet = Supernet(self.space)
        if self._pretrained:
            keep_statistics(self.supernet)
        self.runtime.place(self.supernet)
        self.optimizer = optimizer_of(self.supernet, weights_recipe(config), pretrained=self._pretrained)
        self.loss = classification_loss(self.training.class_weights_K, config.label_smoothing)
        # As the weights' loss, but for smoothing: what rare classes count in one they count in the other.
        self.architecture_loss = classification_loss(self.validation.class_weights_K, 0.0)
        self.losses = Losses("search")
        check_architecture_steps(config, len(self.training))
        steps = len(self.training) // config.architecture_every * config.epochs
        seed = derived_seed(self.seed, SearchStream.ARCHITECTURE)
        self.estimator = make_estimator(config, self.architecture, Searched(self.targets, steps, seed))
        self._coming: tuple[int, Iterator[tuple[Tensor, Tensor]]] = (-1, iter(()))
        """The number of the next validation batch, and those that follow: readers of photos read ahead."""
        self.state = SearchState(
            {"version": VERSION, "estimator": config.estimator, "space": self.space.model_dump(mode="json")},
            self.supernet,
            self.architecture,
            self.optimizer,
            self.estimator,
            self.compute_cost,
            self.makers,
        )
        self._since = time.monotonic()
        checkpoint = self.runtime.of_first(self.context.scratch.load(CHECKPOINT))
        if checkpoint is not None:
            self.state.restore(checkpoint, self.context, epochs=self.epochs)

    def learn_by(self, estimator: Estimator[Any], architecture: Architecture) -> None:
        """Take another estimator with its architecture: before the first step, or between two."""
        self.estimator, self.architecture = estimator, architecture
        self.state.estimator, self.state.architecture = estimator, architecture

    def to_the_end(self) -> SearchResult:
        """Take all steps that are left. Raises TrainingDivergedError."""
        try:
            while self.now.epoch < self.epochs:
                self._take_steps()
                self._close_epoch()
        except RunInterruptedError:
            # A fault of the disk, or weights that are no numbers, must not hide what ended the run.
            with suppress(MachineError, TrainingDivergedError):
                self._save()
            raise
        return search_result(self.config.estimator, self.space, self.targets, self.state, self.context.store)

    @property
    def now(self) -> Progress:
        """How far the search is."""
        return self.state.now

    @property
    def begun(self) -> bool:
        """Whether this search goes on from a checkpoint."""
        return self.now.epoch > 0 or self.now.step > 0

    @property
    def _pretrained(self) -> bool:
        return self.space.pretrained is not None

    @property
    def _warming_up(self) -> bool:
        return self.now.epoch < self.config.warmup_epochs

    @property
    def _total_step(self) -> int:
        return self.now.epoch * len(self.training) + self.now.step

    def _take_steps(self) -> None:
        steps = len(self.training)
        self._since = kept = time.monotonic()
        self.supernet.train()
        for x_NCHW, labels in self.training.training(self.seed, self.now.epoch, first=self.now.step):
            with signals.deferred():  # steps are done whole or not at all: what is kept then is consistent
                self.weight_step(x_NCHW, labels, self._path())
                self.now.step += 1
                if not self._warming_up and self.now.step % self.config.architecture_every == 0:
                    self._architecture_step()
            if time.monotonic() - kept > self.runtime.checkpoint_seconds:
                self._save()
                kept = time.monotonic()
            if self.now.step % READ_EVERY == 0:
                self._read_losses()
                note = f"expected {self.estimator.expected_ms(self.architecture):.4g} ms"
                self.context.progress(self.now.epoch + self.now.step / steps, self.epochs, "epochs", note)

    def _read_losses(self) -> None:
        self.now.train_loss_sum = self.losses.add_to(self.now.train_loss_sum)

    def _generator(self, stream: SearchStream) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(self.seed, stream, self.now.epoch, self.now.step))

    def _path(self) -> list[int]:
        """The path of the present weight step: fair in the warm-up, and as often as wanted in the search.

        Fair: a layer with n candidates takes each of them once in steps 0 to n-1, in n to 2n-1, and so on.
        Else drawn from p.
        """
        fair = (
            self._warming_up
            or float(torch.rand((), generator=self._generator(SearchStream.FAIR_OR_LEARNED)))
            < self.config.fair_share
        )
        if not fair:
            return self.architecture.sample_path(self._generator(SearchStream.PATH))
        path = []
        for index, alpha in enumerate(self.architecture.alphas):
            turn, position = divmod(self._total_step, len(alpha))
            order = torch.Generator().manual_seed(
                derived_seed(self.seed, SearchStream.FAIR_ORDER, index, turn)
            )
            path.append(int(torch.randperm(len(alpha), generator=order)[position]))
        return path

    def weight_step(self, x_NCHW: Tensor, labels: Tensor, path: Sequence[int]) -> None:
        """Train the weights of one path on one batch; labels (N,), or (N, classes) of mixed images."""
        step = self._total_step
        steps = len(self.training)
        rate = weights_rate(self.config, step, steps, pretrained=self._pretrained)
        set_learning_rate(self.optimizer, rate)
        # None, not zeros: a path that was not sampled must see neither decay nor momentum.
        self.optimizer.zero_grad(set_to_none=True)

        def loss_of(x_NCHW: Tensor, labels: Tensor) -> Tensor:
            if self.config.distillation == "in_place":
                return sandwich_loss(self.supernet, x_NCHW, labels, path, self.loss)
            loss: Tensor = self.loss(self.supernet(x_NCHW, path), labels)
            return loss

        batch_size = None if self.runtime.group is None else self.training.batch_size
        loss = self.runtime.add_gradients(self.supernet, loss_of, x_NCHW, labels, batch_size=batch_size)
        self.losses.add(loss, step)
        self.optimizer.step()

    def _validation_batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch ``number`` of an endless, reshuffled sequence over the validation images."""
        turn, batch = divmod(number, len(self.validation))
        if number != self._coming[0] or batch == 0:
            seed = derived_seed(self.seed, SearchStream.VALIDATION_ORDER)
            self._coming = number, self.validation.training(seed, turn, first=batch, mix=False)
        self._coming = number + 1, self._coming[1]
        return next(self._coming[1])

    def _architecture_step(self) -> None:
        x_NCHW, labels_N = self._validation_batch(self.now.architecture_steps)
        generator = self._generator(SearchStream.ARCHITECTURE)
        # Solvers round differently on different processors: all processes run what the first one draws.
        draws = self.runtime.agreed(self.estimator.draw(self.architecture, generator))
        self.architecture_step(x_NCHW, labels_N, draws)

    def architecture_step(self, x_NCHW: Tensor, labels_N: Tensor, draws: Any) -> None:
        """Move the architecture by ``draws`` (the estimator's), on one batch of validation images.

        Raises TrainingDivergedError.
        """
        with self.runtime.autocast():
            seen = self.estimator.evaluate(
                self.supernet, self.architecture, x_NCHW, labels_N, draws, self.architecture_loss
            )
        if self.runtime.group is not None:
            seen = averaged(seen, self.runtime.group)
        what, step = "search (architecture)", self.now.architecture_steps
        check_loss(seen.loss, what=what, step=step)
        # The paths that were not active had no part in the loss, but in what is learned.
        check_finite({f"{n}": tensor for n, tensor in enumerate(seen.learned_from)}, what=what, step=step)
        self.estimator.learn(self.architecture, draws, seen)
        with torch.no_grad():
            for alpha in self.architecture.alphas if self.runtime.group is not None else ():
                alpha.copy_(torch.tensor(self.runtime.agreed(alpha.tolist())))
        self.now.architecture_steps += 1
        self._count(seen.loss, seen.correct, seen.images)

    def _count(self, loss: float, correct: int, images: int) -> None:
        self.now.pair_loss_sum += loss
        self.now.pair_correct += correct
        self.now.pair_images += images
        self.now.pair_steps += 1

    def _probe(self) -> None:
        """In the warm-up, look at random paths on validation images; nothing learns from it."""
        with torch.no_grad(), self.supernet.architecture_step():
            for number in range(WARMUP_PROBES):
                x_NCHW, labels_N = self._validation_batch(number)
                generator = torch.Generator().manual_seed(
                    derived_seed(self.seed, SearchStream.WARMUP_PROBE, self.now.epoch, number)
                )
                logits = self.supernet(x_NCHW, self.architecture.sample_path(generator))
                weights_K = self.validation.class_weights_K
                loss = float(nn.functional.cross_entropy(logits, labels_N, weight=weights_K, reduction="sum"))
                right = int((logits.argmax(1) == labels_N).sum())
                loss, correct, images = self.runtime.sums((loss, right, len(labels_N)))
                check_loss(loss, what="search (warm-up)", step=self._total_step)
                self._count(loss / images, int(correct), int(images))

    def _close_epoch(self) -> None:
        self._add_seconds()
        self._read_losses()
        with signals.deferred():
            self._begin_epoch()
            self._save()

    def _begin_epoch(self) -> None:
        """Note what the epoch that ends came to, and go on to the next."""
        phase: SearchPhase = "search"
        if self._warming_up:
            phase = "warm-up"
            self._check_weights()
            self._probe()
        now = self.now
        point = epoch_point(phase, now, self.architecture, self.estimator)
        self.state.history.append(point)
        tell_epoch(point, self.space, self.context)
        self.state.now = Progress(
            epoch=now.epoch + 1, architecture_steps=now.architecture_steps, seconds=now.seconds
        )

    def _add_seconds(self) -> None:
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        self.now.epoch_seconds += seconds
        self.now.seconds += seconds

    def _check_weights(self) -> None:
        check_finite(self.supernet.state_dict(), what="search", step=self._total_step)

    def _save(self) -> None:
        self._add_seconds()
        self._read_losses()
        self._check_weights()
        self.context.scratch.save(CHECKPOINT, self.state.packed())


def architecture_of(space: SearchSpace, latency: LatencyModel) -> Architecture:
    """Architecture parameters, with the latency of every candidate and of what all networks share."""
    return Architecture(*path_costs_ms(space, latency))
