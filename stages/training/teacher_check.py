"""Whether a given teacher can teach: what it answers, and which images it may have learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.errors import UsageError
from stages.training.distillation import FULL
from stages.training.recipe import Recipe

if TYPE_CHECKING:
    from stages.data.config import DataConfig
    from stages.data.dataset import Dataset
    from stages.space.search_space import SearchSpace

_RESULT = "result.json"  # of the run that trained it, where the folder is one that a run has left
_MOST_BYTES = 100_000_000


def check_teacher(recipe: Recipe, space: SearchSpace, dataset: Dataset) -> None:
    """Raises UsageError where the teacher answers something else than the networks that learn from it.

    Or is to be a full network that the space has no weights for, or is not there.
    """
    if recipe.teacher.network is None:
        return
    if recipe.teacher.network == FULL:
        if space.pretrained is None:
            raise UsageError(
                f"training.teacher.network is {FULL}, and space {space.name} has no pretrained weights.",
                hint="Choose the space lite0, name weights (space.pretrained), or a teacher's folder.",
            )
        return
    net = recipe.teacher.architecture()
    for what, its, ours in (
        ("classes", net.classes, space.classes),
        ("input channels", net.input_channels, space.input_channels),
    ):
        if its != ours:
            raise UsageError(
                f"training.teacher.network: the network in {recipe.teacher.network} has {its} {what}, the "
                f"networks of space {space.name} have {ours}.",
                hint="A teacher answers for the same classes: take one that was trained on these images.",
            )
    names = [str(one.get("name")) for one in _images_of(recipe).get("classes", ())]
    if names and names != list(dataset.class_names):
        first = next(
            (pair for pair in zip(names, dataset.class_names, strict=False) if pair[0] != pair[1]),
            (f"{len(names)} names", f"{len(dataset.class_names)} names"),
        )
        raise UsageError(
            f"training.teacher.network: the network in {recipe.teacher.network} learned other classes: "
            f"{first[0]!r} where the images have {first[1]!r}.",
            hint="A teacher answers for the same classes: take one that was trained on these images.",
        )


def doubtful_teacher(recipe: Recipe, data: DataConfig, dataset: Dataset) -> str | None:
    """A warning where the teacher's own run had other parts: it may have learned this run's test images."""
    if recipe.teacher.network in (None, FULL):
        return None
    images = _images_of(recipe)
    if not images or images.get("source") != data.source:
        return None
    parts = {
        "data.split_seed": (images.get("split_seed"), data.split_seed),
        "test images": (images.get("test_images"), dataset.counts["test"]),
    }
    differing = [f"{name} {its}, here {ours}" for name, (its, ours) in parts.items() if its != ours]
    if data.folds is not None:
        differing.append(f"one teacher for {data.folds} test parts")
    if not differing:
        return None
    return (
        f"the teacher in {recipe.teacher.network} was trained with other parts ({'; '.join(differing)}): it "
        "may have learned images that this run tests with, and what its students reach on them is then too "
        "good. Train the teacher with the parts of this run."
    )


def _images_of(recipe: Recipe) -> Mapping[str, Any]:
    """What the teacher's run says of its images; nothing where no result lies beside the network."""
    path = Path(str(recipe.teacher.network), _RESULT)
    found: Any = None
    with suppress(OSError, ValueError):
        found = json.loads(path.read_bytes()) if path.stat().st_size <= _MOST_BYTES else None
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, dict) or not isinstance(images.get("classes"), list):
        return {}
    return images if all(isinstance(one, dict) for one in images["classes"]) else {}
