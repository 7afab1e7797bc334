"""Train networks for a short while by themselves: the last choice among a few that look alike.

A supernet of some epochs orders networks of one latency hardly better than chance does where its weights are
worse than new ones (docs/adr/0018). A short training of its own says more of what finished training will make
of a network. It starts from fresh weights, or from those of a space's pretrained network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pipeline.stage import Context
from stages.data.config import DataConfig
from stages.documents import ComputeCost, MadeBy
from stages.nn.network import save_weights
from stages.space.network_name import network_name
from stages.space.search_space import NetConfig, SearchSpace
from stages.training.optimisation import Evaluation
from stages.training.recipe import Recipe
from stages.training.starting import FittedStart, with_teacher
from stages.training.task import Course, Outcome, Task
from stages.training.together import train_together

TRIALS = "trials"


class Trials:
    """Judgements on the validation images after the whole of ``recipe``, averaged weights.

    All networks start from equal random states and see the same images in the same order. Judgements are
    kept in the context's scratch, as are trainings that were begun: a killed run goes on there.
    """

    def __init__(
        self, recipe: Recipe, data: DataConfig, seed: int, context: Context, space: SearchSpace
    ) -> None:
        self.course, self.context, self.space = Course(recipe, data, seed), context, space
        rows = context.scratch.rows(TRIALS)
        self._kept = {
            tuple(row["path"]): Evaluation(float(row["accuracy_percent"]), float(row["loss"])) for row in rows
        }
        self._makers = dict.fromkeys(
            MadeBy.model_validate(made_by) for row in rows for made_by in row.get("made_by", ())
        )

    @property
    def made_by(self) -> tuple[MadeBy, ...]:
        """All that trained them, each once, in order."""
        return tuple(self._makers)

    def evaluate(
        self,
        networks: Mapping[tuple[int, ...], NetConfig],
        finished: Callable[[ComputeCost | None], object] = lambda _cost: None,
    ) -> None:
        """Train those of the networks, by path, that have not been; ``finished`` is told what each took.

        Raises TrainingDivergedError, and MachineError where a training process was killed.
        """
        paths = list(networks)
        # Of all: how many there are decides over threads, which decide over the numbers that come out.
        start = self._start(any(path not in self._kept for path in paths))
        tasks = [
            Task(
                network_name(path, "trial"),
                networks[path],
                None if path in self._kept else start(networks[path]),
                pretrained=self.space.pretrained is not None,
                evaluated=True,
                done=path in self._kept,
            )
            for path in paths
        ]

        def keep(index: int, outcome: Outcome) -> None:
            self._keep(paths[index], outcome)
            finished(outcome.trained.compute_cost)

        course = self.course
        if not all(task.done for task in tasks):
            recipe = with_teacher(course.recipe, self.space, course.data, course.seed)
            course = replace(course, recipe=recipe)
        train_together(tasks, course, self.context, keep)

    def _start(self, needed: bool) -> Callable[[NetConfig], bytes | None]:
        """The weights that a network's trial starts from: those that its training would; None: fresh ones."""
        if not needed or self.space.pretrained is None:
            return lambda _net: None
        start = FittedStart(self.space, self.course.data, self.course.seed)
        return lambda net: save_weights(start.network(net))

    def evaluation(self, path: Sequence[int]) -> Evaluation:
        """Of a network that was trained. Raises KeyError for another one."""
        return self._kept[tuple(path)]

    def _keep(self, path: tuple[int, ...], outcome: Outcome) -> None:
        assert outcome.evaluation is not None, "it was asked for"
        found, makers = outcome.evaluation, outcome.trained.made_by
        self._kept[path] = found
        self._makers |= dict.fromkeys(makers)
        row = {"path": list(path), "accuracy_percent": found.accuracy_percent, "loss": found.loss}
        self.context.scratch.append(TRIALS, {**row, "made_by": [made_by.model_dump() for made_by in makers]})
