"""How networks are trained; light to import, because it is part of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.artifact import Record


class Recipe(Record):
    """SGD with Nesterov momentum, warm-up, cosine. One recipe serves all networks that are compared."""

    epochs: int = Field(6, ge=1, description="passes over the training images")
    batch_size: int = Field(64, ge=2, le=4096, description="images per step")
    learning_rate: float = Field(0.1, gt=0, le=10, description="at the top of the warm-up")
    warmup_epochs: float = Field(0.3, ge=0, description="linear rise of the learning rate, in epochs")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(4e-5, ge=0, le=1, description="on convolution and dense weights only")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target given to all classes")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="of the averaged weights, per four steps")


class FinetuneConfig(Recipe):
    """The recipe of every network that is compared: found, random and MobileNetV2s."""

    start: Literal["inherited", "fresh"] = Field(
        "inherited", description="found and random networks: from the supernet's weights, or from new ones"
    )
