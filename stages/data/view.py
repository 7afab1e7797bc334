"""How photos become a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stages.data.augmentation import Augmentation

Fit = Literal["crop", "stretch"]
"""How an image of another shape becomes square: by its middle, or squeezed."""


@dataclass(frozen=True)
class View:
    """Size, fit and variation of a network's input.

    ``names``: of the files, by the number of the image, for errors.
    """

    resolution: int
    fit: Fit
    augmentation: Augmentation
    classes: int
    names: tuple[str, ...] = ()
