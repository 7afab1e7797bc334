"""Pixels of every kind as 8-bit grey or RGB, the way that an app on a phone shows them.

- Transparent pixels are laid on white.
- Colour profiles (ICC) are ignored: phones' cameras and decoders give sRGB or close to it.
- 16-bit grey is divided by 257, so that 65535 is 255: by the type's range, not by an image's own extremes.
- Grey in whole numbers of 32 bits or in floats has no range that a file states. It is taken as 0..1 (floats),
  0..255 or 0..65535, the first that all values lie in; else it is stretched from its least to its greatest
  value. What is no number becomes 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BAND_PIXELS = 1_000_000


def eight_bits(image: Image.Image) -> Image.Image:
    """The image, decoded, in mode L, LA, RGB or RGBA."""
    mode = image.mode
    if mode.startswith("I;16"):
        return Image.fromarray(_from_16_bits(np.asarray(image)))
    if mode in ("I", "F"):
        return Image.fromarray(_from_any_range(np.asarray(image), image.format == "PPM"))
    if image.has_transparency_data:
        grey = mode in ("1", "L", "LA", "La")
        wanted = "LA" if grey else "RGBA"
    elif mode in ("1", "L"):
        wanted = "L"
    else:
        wanted = "RGB"
    return image if mode == wanted else image.convert(wanted)


def reduced_eight_bits(image: Image.Image, factor: int) -> Image.Image:
    """:func:`eight_bits`, each block of ``factor`` x ``factor`` pixels averaged to one; band by band.

    A band at a time, because a palette or transparency needs several times the memory of the image.
    """
    rows = max(1, _BAND_PIXELS // image.width // factor) * factor
    whole: Image.Image | None = None
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows)))
        small = eight_bits(band).reduce(factor)
        if whole is None:
            whole = Image.new(small.mode, (small.width, -(-image.height // factor)))
        whole.paste(small, (0, top // factor))
    assert whole is not None  # an image has a row
    return whole


def on_white(image: Image.Image) -> Image.Image:
    """L or RGB from L, LA, RGB or RGBA."""
    if image.mode not in ("LA", "RGBA"):
        return image
    colours = "L" if image.mode == "LA" else "RGB"
    white = Image.new(colours, image.size, 255 if colours == "L" else (255, 255, 255))
    white.paste(image.convert(colours), mask=image.getchannel("A"))
    return white


def _from_16_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    table = ((np.arange(65536) + 128) // 257).astype(np.uint8)
    return table[values.astype(np.uint16)]


def _from_any_range(values: NDArray[np.generic], is_16_bits: bool) -> NDArray[np.uint8]:
    if is_16_bits:  # Pillow scales grey PPM of more than 8 bits to 0..65535
        return _from_16_bits(values.clip(0, 65535))
    with np.errstate(invalid="ignore"):  # a signalling NaN, too, becomes 0
        numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    least, greatest = float(numbers.min()), float(numbers.max())
    if least >= 0 and greatest <= 1 and values.dtype.kind == "f":
        scaled = numbers * 255
    elif least >= 0 and greatest <= 255:
        scaled = numbers
    elif least >= 0 and greatest <= 65535:
        scaled = numbers / 257
    elif least == greatest:
        scaled = np.zeros_like(numbers)
    else:
        scaled = (numbers / 2 - least / 2) / (greatest / 2 - least / 2) * 255  # halves: no overflow
    return (scaled + 0.5).astype(np.uint8)
