"""How networks are trained; light to import, because it is part of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from stages.space.search_space import SearchSpace
from stages.training.distillation import TeacherConfig

PRETRAINED_RATE = 3e-4
Start = Literal["auto", "inherited", "fresh", "pretrained"]


def _precision(value: object) -> object:
    """YAML reads 32 as a number. Raises ValueError for float16, and says why."""
    word = str(value) if type(value) is int else value
    if word in ("16", "fp16", "float16", "16-mixed"):
        raise ValueError(
            "float16 is not offered: without a scale for losses, which would have to be learned and kept in "
            "checkpoints, small gradients become 0 in it. bf16 has the range of float32; GPUs since 2020 "
            "(NVIDIA's Ampere) compute in it"
        )
    return word


class Recipe(Record):
    """SGD with Nesterov momentum (AdamW for pretrained weights), warm-up, cosine.

    One recipe serves all networks that are compared.
    """

    epochs: int = Field(
        6, ge=1, description="passes over the training images, for every network that is compared"
    )
    batch_size: int = Field(64, ge=2, le=4096, description="training images per step")
    learning_rate: float = Field(
        0.1, gt=0, le=10, description="the highest, after the warm-up; then it falls to zero along a cosine"
    )
    pretrained_rate: float = Field(
        PRETRAINED_RATE,
        gt=0,
        le=10,
        description="in its place for networks that start from pretrained weights: these learn by AdamW, and "
        "their batch normalisation keeps its statistics",
    )
    warmup_epochs: float = Field(
        0.3, ge=0, description="passes in which the learning rate rises to that, linearly"
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Nesterov momentum; AdamW, by which pretrained weights learn, takes none"
    )
    weight_decay: float = Field(
        4e-5,
        ge=0,
        le=1,
        description="on the weights of convolutions and the classifier; of pretrained ones it is 0.01",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of each label that is spread over all classes"
    )
    ema_decay: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights, every four steps")
    parts: int = Field(
        1,
        ge=1,
        le=1024,
        description="compute each batch in so many parts, one after another, where memory is short; batch "
        "normalisation then sees a part",
    )
    clip: float | None = Field(
        None, gt=0, examples=[5.0], description="largest norm of all gradients; longer ones are scaled down"
    )
    drop_path: float = Field(
        0.0,
        ge=0,
        lt=1,
        exclude_if=lambda rate: rate == 0,
        description="chance with which the last residual block is left out for an image in training "
        "(stochastic depth), falling to 0 at the first; 0: none",
    )
    teacher: TeacherConfig = Field(
        TeacherConfig(),
        exclude_if=lambda teacher: teacher.network is None,
        description="a trained network that all compared networks learn from, as well as from labels",
    )
    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(_precision)] = Field(
        "auto",
        description="of the arithmetic in training: 32 (float32), bf16 (bfloat16, mixed with float32), or "
        "auto: bf16 where the processor or GPU has it and a short trial before the first training shows that "
        "it is faster and learns as well",
    )
    tensorboard: bool = Field(
        False,
        exclude=True,
        description="write the curves of search and training for TensorBoard, beside the run's log",
    )
    # Decides how soon the networks are there, not what they are.
    side_by_side: int | None = Field(
        None,
        ge=1,
        le=1024,
        exclude=True,
        examples=[1],
        description="independent trainings at a time, each in a process of its own; 1: one after another; "
        "unset: as many as the cores or GPUs feed. The results are the same",
    )


class TrainingConfig(Recipe):
    """The recipe of every network that is compared: found, random and MobileNetV2s."""

    start: Start = Field(
        "auto",
        description="weights that the found and random networks start from: fresh (new ones), inherited (the "
        "search's), pretrained (the space's pretrained ones, fitted to each network), or auto (pretrained "
        "where the space has such weights, else inherited)",
    )
    # Enters fingerprints by the numbers of epochs that come of it (nasflow/commands/training_plan.py).
    budget_minutes: float | None = Field(
        None,
        gt=0,
        exclude=True,
        examples=[10],
        description="minutes that a whole run should take: on a slow computer there are fewer epochs than "
        "'nasflow init' writes. Its speed is measured once, before the first run. It applies where search "
        "and training have those epochs; unset, or 'nasflow run --full-length': it does not",
    )


def pass_seconds(images: int, macs: float) -> float:
    """A guess for two cores of a desktop computer: one pass of a network's training over so many images."""
    return images * (3e-4 + 1.5e-10 * macs)


def teacher_identity(recipe: Recipe) -> dict[str, str]:
    """What of the recipe lies in files: for the environment of stages that train. Raises UsageError."""
    return recipe.teacher.identity()


def resolved_start(start: Start, space: SearchSpace) -> Start:
    """What ``auto`` means for a space. Raises UsageError where it has no pretrained weights to start from."""
    if start == "auto":
        return "inherited" if space.pretrained is None else "pretrained"
    if start == "pretrained" and space.pretrained is None:
        raise UsageError(
            f"training.start is pretrained, and space {space.name} has no pretrained weights.",
            hint="Choose the space lite0, name weights (space.pretrained), or another start.",
        )
    return start
