"""How training images are varied: as configuration, in three presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from pipeline.artifact import Record

Preset = Literal["none", "light", "strong"]


@dataclass(frozen=True)
class Augmentation:
    """What is done to each training image, and to batches of them; see :class:`AugmentationConfig`."""

    crop_scale: float = 1.0
    flip: bool = False
    colour: float = 0.0
    randaugment: int = 0
    magnitude: int = 9
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


PRESETS: Mapping[Preset, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(crop_scale=0.35, flip=True, colour=0.2),
    "strong": Augmentation(
        crop_scale=0.2, flip=True, colour=0.3, randaugment=2, erasing=0.2, mixup=0.2, cutmix=1.0
    ),
}


class AugmentationConfig(Record):
    """A preset, and what differs from it."""

    preset: Preset = Field(
        "light",
        description="none, light (random crops, mirroring, colour), or strong (RandAugment, erasing, mixup "
        "and CutMix as well: for few images and many epochs); the keys below override it",
    )
    crop_scale: float | None = Field(
        None,
        gt=0,
        le=1,
        examples=[0.35],
        description="smallest share of an image's area that a random crop shows; 1: no random crop",
    )
    flip: bool | None = Field(None, examples=[True], description="mirror every other image")
    colour: float | None = Field(
        None,
        ge=0,
        le=1,
        examples=[0.2],
        description="brightness, contrast and saturation change by up to this share",
    )
    randaugment: int | None = Field(
        None,
        ge=0,
        le=8,
        examples=[2],
        description="further random changes to each image (RandAugment, arXiv 1909.13719)",
    )
    magnitude: int | None = Field(None, ge=0, le=30, examples=[9], description="how strong those are")
    erasing: float | None = Field(
        None,
        ge=0,
        le=1,
        examples=[0.2],
        description="share of images of which a rectangle is erased (arXiv 1708.04896)",
    )
    mixup: float | None = Field(
        None, ge=0, le=10, examples=[0.2], description="alpha of mixup (arXiv 1710.09412); 0: none"
    )
    cutmix: float | None = Field(
        None, ge=0, le=10, examples=[1.0], description="alpha of CutMix (arXiv 1905.04899); 0: none"
    )

    def resolved(self) -> Augmentation:
        """The preset with what overrides it."""
        given = self.model_dump(exclude={"preset"}, exclude_none=True)
        return replace(PRESETS[self.preset], **given)
