"""All that a search has to keep so that it goes on, after an interruption, with the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from pipeline.stage import Context
from stages.documents import SearchEpoch
from stages.nas.architecture import Architecture
from stages.nas.estimators.base import Estimator
from stages.nn.supernet import Supernet
from stages.training.checkpoint import check_origin, pack, pack_optimizer, under, unpack, unpack_optimizer
from stages.training.cost import ComputeClock
from stages.training.makers import Makers


@dataclass
class Progress:
    """Where a search stands. Sums are over the running epoch."""

    epoch: int = 0
    step: int = 0
    architecture_steps: int = 0
    train_loss_sum: float = 0.0
    pair_loss_sum: float = 0.0
    pair_correct: int = 0
    pair_images: int = 0
    pair_steps: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0


@dataclass
class SearchState:
    """What is trained and learned, by whom, and how far.

    ``origin`` is what a checkpoint must have been made by, for this search to go on from it.
    """

    origin: Mapping[str, Any]
    supernet: Supernet
    architecture: Architecture
    optimizer: Optimizer
    estimator: Estimator[Any]
    compute_cost: ComputeClock
    makers: Makers
    now: Progress = field(default_factory=Progress)
    history: list[SearchEpoch] = field(default_factory=list)

    def packed(self) -> bytes:
        """The checkpoint."""
        tensors, numbers = pack_optimizer(self.optimizer, "weights_optimizer")
        tensors |= {f"supernet.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        tensors |= {f"architecture.{n}": t for n, t in self.architecture.state_dict().items()}
        state: dict[str, Any] = {
            "origin": dict(self.origin),
            "now": vars(self.now),
            "compute_cost": self.compute_cost.state(),
            "made_by": self.makers.state(),
            "estimator": self.estimator.state(),
            "history": [point.model_dump() for point in self.history],
            "optimizer": numbers,
        }
        return pack(tensors, state)

    def restore(self, checkpoint: bytes, context: Context, *, epochs: int) -> None:
        """Go on from a checkpoint of a search of so many epochs; what else made it is told.

        Raises IntegrityError where it is damaged or of another search.
        """
        tensors, state = unpack(checkpoint)
        check_origin(state.get("origin"), dict(self.origin), context)
        self.now = Progress(**state["now"])
        self.compute_cost.restore(state.get("compute_cost"))
        self.makers.resume(state.get("made_by"), "search", context, finished=self.now.epoch == epochs)
        self.estimator.restore(state["estimator"])
        self.history = [SearchEpoch.model_validate(point) for point in state["history"]]
        self.supernet.load_state_dict(under("supernet", tensors))
        self.architecture.load_state_dict(under("architecture", tensors))
        unpack_optimizer(self.optimizer, "weights_optimizer", tensors, state["optimizer"])
        context.say(f"resuming at epoch {self.now.epoch}, step {self.now.step}.")
