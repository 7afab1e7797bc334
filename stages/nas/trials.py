"""Train networks for a short while from fresh weights: the last choice among a few that look alike.

A supernet of some epochs orders networks of one latency hardly better than chance does where its weights are
worse than new ones (docs/adr/0018). A short training of its own says more of what finished training will make
of a network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.stage import Context
from stages.data.config import DataConfig, open_dataset
from stages.documents import MadeBy
from stages.nn.network import Network, load_network
from stages.seeds import TrainingStream, derived_seed
from stages.space.network_name import network_name
from stages.space.search_space import NetConfig
from stages.training.loop import train
from stages.training.many import one_of_many
from stages.training.optimisation import Evaluation, evaluate
from stages.training.recipe import Recipe
from stages.training.runtime import TrainingRuntime

TRIALS = "trials"


class Trials:
    """Judgements on the validation images after the whole of ``recipe``, averaged weights.

    All networks start from equal random states and see the same images in the same order. Judgements are
    kept in the context's scratch, as is a training that was begun: a killed run goes on there.
    """

    def __init__(
        self, recipe: Recipe, data: DataConfig, seed: int, context: Context, runtime: TrainingRuntime
    ) -> None:
        self.recipe, self.seed, self.context, self.runtime = recipe, seed, context, runtime
        self.training = open_dataset(data).load("train").batches(recipe.batch_size, runtime.device)
        self.validation = open_dataset(data).load("choice").batches(500, runtime.device)
        rows = context.scratch.rows(TRIALS)
        self._kept = {
            tuple(row["path"]): Evaluation(float(row["accuracy_percent"]), float(row["loss"])) for row in rows
        }
        self._makers = dict.fromkeys(
            MadeBy.model_validate(made_by) for row in rows for made_by in row.get("made_by", ())
        )
        self._trained_by: tuple[MadeBy, ...] = ()

    @property
    def made_by(self) -> tuple[MadeBy, ...]:
        """All that trained them, each once, in order."""
        return tuple(self._makers)

    def evaluate(self, path: Sequence[int], net: NetConfig, *, index: int = 0, total: int = 1) -> Evaluation:
        """Train the network of a path, the ``place``-th of ``total``, once. Raises TrainingDivergedError."""
        key = tuple(path)
        if key not in self._kept:
            self._kept[key] = found = self._evaluate(key, net, one_of_many(self.context, index, total))
            row = {"path": list(key), "accuracy_percent": found.accuracy_percent, "loss": found.loss}
            makers = [made_by.model_dump() for made_by in self._trained_by]
            self.context.scratch.append(TRIALS, {**row, "made_by": makers})
        return self._kept[key]

    def _evaluate(self, path: tuple[int, ...], net: NetConfig, context: Context) -> Evaluation:
        torch.manual_seed(derived_seed(self.seed, TrainingStream.FRESH_WEIGHTS))
        trained = train(
            Network(net),
            self.training,
            self.validation,
            self.recipe,
            seed=derived_seed(self.seed, TrainingStream.BATCHES),
            name=network_name(path, "trial"),
            context=context,
            runtime=self.runtime,
        )
        self._trained_by = trained.made_by
        self._makers |= dict.fromkeys(trained.made_by)
        network = load_network(net, trained.weights).to(self.runtime.device)
        return evaluate(network, self.validation.in_order())
