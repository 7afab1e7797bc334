"""Two changes of the pipeline: the found network from random weights too; a search with shuffled labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasflow.base import files
from nasflow.config import PipelineConfig
from pipeline.stage import Context, Stage
from stages.data.catalogue import catalogue_of
from stages.data.config import DataConfig
from stages.data.dataset import PARTS
from stages.data.split_file import SplitFile, SplitLine, split_bytes
from stages.data.splitting import Shares
from stages.documents import PrunedNetworks, TrainedNetworks
from stages.finetune import Finetune
from stages.prune import Prune
from stages.search import Search

FRESH_NAME = "found_fresh"


@dataclass(frozen=True)
class FinetuneAndFresh(Finetune):
    """As fine-tune, and then the found network once more from random weights, for ``fresh_epochs``."""

    fresh_epochs: int = 1

    def run(self, context: Context, **inputs: Any) -> TrainedNetworks:
        """Train all, or go on where that was stopped. Raises TrainingDivergedError."""
        trained = super().run(context, **inputs)
        pruned: PrunedNetworks = inputs["pruned"]
        from stages.training.many import Job, train_all

        recipe = self.config.model_copy(update={"epochs": self.fresh_epochs})
        job = Job(FRESH_NAME, "front", pruned.found.net, None)  # verify shows a front beside the others
        fresh = train_all([job], recipe, self.data, self.seed, context)
        return TrainedNetworks(networks=(*trained.networks, *fresh.networks))


def with_fresh(stages: Sequence[Stage], config: PipelineConfig) -> list[Stage]:
    """The stages; the found network is trained from random weights too, for longer by the search."""
    search = config.search
    epochs = config.training.epochs + search.warmup_epochs + search.epochs
    return [
        FinetuneAndFresh(
            config=stage.config,
            space=stage.space,
            data=stage.data,
            seed=stage.seed,
            networks=stage.networks + 1,
            fresh_epochs=epochs,
        )
        if isinstance(stage, Finetune)
        else stage
        for stage in stages
    ]


def with_shuffled_search(stages: Sequence[Stage], folder: Path) -> list[Stage]:
    """The stages; search and pick see shuffled labels, all others the true ones. No random networks.

    ``folder`` becomes the data set with shuffled labels.
    """
    (search,) = (stage for stage in stages if isinstance(stage, Search))
    data = shuffled(search.data, folder)
    changed: list[Stage] = []
    for stage in stages:
        if isinstance(stage, Search):
            stage = replace(stage, data=data)
        elif isinstance(stage, Prune):
            config = stage.config.model_copy(update={"random_networks": 0})
            stage = replace(stage, data=data, config=config)
        changed.append(stage)
    return changed


def shuffled(data: DataConfig, folder: Path) -> DataConfig:
    """The same images in the same parts, as links in ``folder``; labels are permuted within each part.

    Those of the test part are left, for no search reads it.
    """
    assert data.path is not None
    catalogue = catalogue_of(data)
    label_of = {image.path: image.label for image in catalogue.inventory.listing.images}
    sha256_of = {
        listed.path: image.sha256 or ""
        for listed, image in zip(catalogue.inventory.listing.images, catalogue.inventory.images, strict=True)
    }
    lines: list[SplitLine] = []
    splitting = catalogue.splitting
    for part in PARTS:
        if part == "architecture" and splitting.shared:
            continue
        keys = splitting.keys(part)
        labels = [label_of[key] for key in keys]
        if part != "test":
            random.Random(f"{data.split_seed} {data.fold} {part}").shuffle(labels)
        for number, (key, label) in enumerate(zip(keys, labels, strict=True)):
            path = f"{label}/{part}-{number:05d}{Path(key).suffix}"
            link = folder / "images" / path
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to((Path(data.path) / key).resolve())
            lines.append(SplitLine(path, label, sha256_of[key], part))
    split = SplitFile(tuple(lines), data.split_seed, Shares(), splitting.shared)
    files.write_atomic(folder / "split.jsonl", split_bytes(split))
    return data.model_copy(
        update={
            "path": str(folder / "images"),
            "split_file": str(folder / "split.jsonl"),
            "folds": None,
            "fold": 0,
        }
    )
