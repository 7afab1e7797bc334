"""Fine-tune: train the pruned network, and the random ones beside it, by the common recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.stage import TOOL, Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.documents import PrunedNetworks, TrainedNetworks
from stages.nn.weights_source import origin_of, weights_identity
from stages.space.search_space import SearchSpace
from stages.training.recipe import Start, TrainingConfig, pass_seconds, resolved_start, teacher_identity
from stages.training.teacher_check import check_teacher

if TYPE_CHECKING:
    from stages.training.many import Job


@dataclass(frozen=True)
class Finetune(Stage):
    """Cosine schedule with warm-up, label smoothing, averaged weights, best epoch by validation."""

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 4
    inputs: ClassVar[Mapping[str, str]] = {"pruned": "prune"}
    output: ClassVar[type[TrainedNetworks]] = TrainedNetworks

    config: TrainingConfig = field(metadata={"section": "training"})
    space: SearchSpace
    data: DataConfig
    seed: int
    networks: int = field(default=2, metadata=TOOL)
    """How many are expected, for the estimate."""

    def environment(self) -> Mapping[str, str]:
        """The images, the teacher, and the weights that networks start from."""
        pretrained = self.space.pretrained if self._start == "pretrained" else None
        return {
            **open_dataset(self.data).identity(),
            **teacher_identity(self.config),
            **weights_identity(pretrained),
        }

    def settings(self) -> dict[str, Any]:
        """Of the space nothing: the networks and :meth:`environment` say what is trained and from what."""
        plain = super().settings()
        del plain["space"]
        return plain

    @property
    def _start(self) -> Start:
        return resolved_start(self.config.start, self.space)

    def check(self) -> None:
        """Raises UsageError where networks are to start, or to learn, from weights that are not there."""
        resolved_start(self.config.start, self.space)
        check_teacher(self.config, self.space, open_dataset(self.data))

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("train")

    def estimate_seconds(self) -> float:
        """A guess for two cores of a desktop computer."""
        macs = self.space.network(self.space.middle_path()).macs
        images = open_dataset(self.data).counts["train"]
        return self.networks * self.config.epochs * pass_seconds(images, macs)

    def run(self, context: Context, **inputs: Any) -> TrainedNetworks:
        """Train all networks, or go on where that was stopped. Raises TrainingDivergedError."""
        pruned: PrunedNetworks = inputs["pruned"]
        from stages.training.many import Job, train_all
        from stages.training.starting import with_teacher

        networks = (pruned.found, *pruned.randoms, *pruned.front)
        start = self._start
        jobs = [Job(n.name, n.role, n.net, None) for n in networks]
        if start == "inherited":
            jobs = [
                replace(
                    job,
                    weights=context.store.read_bytes(network.weights),
                    origin="inherited",
                    pretrained=pruned.pretrained,
                )
                for job, network in zip(jobs, networks, strict=True)
            ]
        elif start == "pretrained":
            jobs = self._pretrained(jobs, context)
        recipe = with_teacher(self.config, self.space, self.data, self.seed)
        return train_all(jobs, recipe, self.data, self.seed, context)

    def _pretrained(self, jobs: Sequence[Job], context: Context) -> list[Job]:
        """The jobs with weights cut out of the space's pretrained network, and fitted."""
        from stages.nn.network import save_weights
        from stages.training.starting import FittedStart

        assert self.space.pretrained is not None
        start, origin = FittedStart(self.space, self.data, self.seed), origin_of(self.space.pretrained)
        started = []
        for job in jobs:
            context.say(f"{job.name}: fitting its blocks to the pretrained network's.")
            weights = save_weights(start.network(job.net))
            started.append(replace(job, weights=weights, origin="pretrained", pretrained=origin))
        return started
