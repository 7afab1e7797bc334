"""Fine-tune: train the pruned network, and the random ones beside it, by the common recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipeline.stage import TOOL, Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.documents import PrunedNetworks, TrainedNetworks
from stages.training.recipe import TrainingConfig, teacher_identity


@dataclass(frozen=True)
class Finetune(Stage):
    """Cosine schedule with warm-up, label smoothing, averaged weights, best epoch by validation."""

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 2
    inputs: ClassVar[Mapping[str, str]] = {"pruned": "prune"}
    output: ClassVar[type[TrainedNetworks]] = TrainedNetworks

    config: TrainingConfig = field(metadata={"section": "training"})
    data: DataConfig
    seed: int
    networks: int = field(default=2, metadata=TOOL)
    """How many are expected, for the estimate."""

    def environment(self) -> Mapping[str, str]:
        """The images, and the teacher."""
        return {**open_dataset(self.data).identity(), **teacher_identity(self.config)}

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("train")

    def estimate_seconds(self) -> float:
        """A guess for two cores of a desktop computer at the quick start's size."""
        return self.networks * self.config.epochs * 30.0

    def run(self, context: Context, **inputs: Any) -> TrainedNetworks:
        """Train all networks, or go on where that was stopped. Raises TrainingDivergedError."""
        pruned: PrunedNetworks = inputs["pruned"]
        from stages.training.many import Job, train_all

        inherit = self.config.start == "inherited"
        jobs = [
            Job(n.name, n.role, n.net, context.store.read_bytes(n.weights) if inherit else None)
            for n in (pruned.found, *pruned.randoms, *pruned.front)
        ]
        return train_all(jobs, self.config, self.data, self.seed, context)
