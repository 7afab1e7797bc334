"""Images as a model takes them: numbers from -1 to 1, or the pixels that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIDDLE = 127.5
"""Mean and standard deviation of the normalisation, in pixel values: 0 is -1, 255 is 1."""


def model_input(images_NHWC: NDArray[np.float32], element_type: str) -> NDArray[Any]:
    """Images in -1..1 as a model with this input type takes them: float32 as they are, uint8 as pixels."""
    if element_type != "uint8":
        return images_NHWC
    import numpy as np

    pixels_NHWC: NDArray[Any] = np.rint(images_NHWC * MIDDLE + MIDDLE).clip(0, 255).astype(np.uint8)
    return pixels_NHWC
