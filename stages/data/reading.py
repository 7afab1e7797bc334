"""One image file as pixels: upright, 8-bit RGB or grey, and, where wanted, scaled while it is decoded.

A JPEG's decoder can give every second, fourth or eighth pixel at a fraction of the time and memory. What is
left is resized with antialiasing (bilinear over the whole area of each pixel). How pixels of every kind
become RGB stands in :mod:`stages.data.pixels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from stages.data.exif import upright
from stages.data.image_file import REASONS, BrokenImageError, Reason, decoder_errors, read_file
from stages.data.image_header import (
    MOST_PIXELS,
    MOST_PIXELS_CHECKED,
    OpenedImage,
    check_pixels,
    format_of,
    open_image,
)
from stages.data.pixels import eight_bits, on_white, reduced_eight_bits

__all__ = [
    "MOST_PIXELS", "REASONS", "BrokenImageError", "ImageSize", "Reason", "decode_image", "decode_once",
    "measure_bytes", "measure_image", "read_image",
]  # fmt: skip

LONGEST_RATIO = 4.0
_HEADER_BYTES = 2**16
_LARGE_PIXELS = 16_000_000
_REDUCING_GAP = 3.0  # the last step still shrinks by so much; the first averages whole blocks
_SCALES = (8, 4, 2, 1)  # of JPEG's decoder


@dataclass(frozen=True)
class ImageSize:
    """Width and height in pixels as people see the image (orientation applied); ``format`` as ``JPEG``."""

    width: int
    height: int
    format: str


def read_image(
    path: Path,
    *,
    channels: Literal[1, 3] = 3,
    shorter_side: int | None = None,
    longest_ratio: float = LONGEST_RATIO,
) -> Image.Image:
    """Read an image file; see :func:`decode_image`. Raises BrokenImageError, and nothing else."""
    return decode_image(
        read_file(path), channels=channels, shorter_side=shorter_side, longest_ratio=longest_ratio
    )


def decode_image(
    data: bytes,
    *,
    channels: Literal[1, 3] = 3,
    shorter_side: int | None = None,
    longest_ratio: float = LONGEST_RATIO,
) -> Image.Image:
    """Decode an image to mode RGB, or L for one channel; of an animation the first frame.

    With ``shorter_side`` the shorter side has so many pixels, enlarged where need be. The longer side has at
    most ``longest_ratio`` times as many: of a longer image the middle is taken. Without, size and shape are
    the file's. Raises BrokenImageError, and nothing else: also ``too_large`` where more than ``MOST_PIXELS``
    would have to be decoded.
    """
    image, opened = _upright(data, channels, shorter_side, longest_ratio)
    if image is opened:
        with decoder_errors():
            image = image.copy()  # lets go of the file's bytes
    image.info = {}
    return image


def decode_once(data: bytes, *, channels: Literal[1, 3], shorter_side: int) -> Image.Image:
    """As :func:`decode_image`, not copied: it may hold what else the file has in memory. To be used soon."""
    return _upright(data, channels, shorter_side, LONGEST_RATIO)[0]


def _upright(
    data: bytes, channels: Literal[1, 3], shorter_side: int | None, longest_ratio: float
) -> tuple[Image.Image, Image.Image]:
    """See :func:`decode_image`; also the image as it was opened, which may be the same."""
    opened = open_image(data)
    with decoder_errors():
        width, height = _decode(opened, channels, shorter_side)
        factor = _reduction(opened.image, shorter_side)
        image = reduced_eight_bits(opened.image, factor) if factor > 1 else eight_bits(opened.image)
        width, height = width / factor, height / factor
        if channels == 1 and image.mode in ("RGB", "RGBA"):
            image = image.convert("L" if image.mode == "RGB" else "LA")
        if shorter_side is not None:
            image = _resized(image, width, height, shorter_side, longest_ratio)
        image = upright(on_white(image), opened.orientation)
        if channels == 3 and image.mode != "RGB":
            image = image.convert("RGB")
        return image, opened.image


def measure_image(path: Path) -> ImageSize:
    """An image's size from its header alone. Raises BrokenImageError."""
    start = read_file(path, _HEADER_BYTES)
    if len(start) == _HEADER_BYTES:
        if format_of(start) != "JPEG":  # their metadata may stand at the end
            return measure_bytes(read_file(path))
        try:
            return measure_bytes(start)
        except BrokenImageError:  # more metadata than that before the first pixel
            return measure_bytes(read_file(path))
    return measure_bytes(start)


def measure_bytes(data: bytes) -> ImageSize:
    """As :func:`measure_image`, of a whole file's content."""
    opened = open_image(data)
    width, height = opened.upright_size
    return ImageSize(width, height, format_of(data))


def _decode(opened: OpenedImage, channels: int, shorter_side: int | None) -> tuple[float, float]:
    """Decode into ``opened.image``; the size in its pixels, with fractions where JPEG's last are partial."""
    image = opened.image
    width, height = image.size
    scale = 1
    if shorter_side is not None:
        scale = next(s for s in _SCALES if s == 1 or min(width, height) >= s * shorter_side)
    if opened.scalable:
        check_pixels(-(-width // scale), -(-height // scale))
    else:
        check_pixels(width, height, MOST_PIXELS_CHECKED if image.format == "TIFF" else MOST_PIXELS)
    reduced = (width // scale, height // scale) if scale > 1 else None
    drafted = image.draft("L" if channels == 1 else None, reduced)
    image.load()
    return image.size if drafted is None else (drafted[1][2], drafted[1][3])


def _reduction(image: Image.Image, shorter_side: int | None) -> int:
    """By how much a large image is averaged before the rest: the other steps then need little memory."""
    if shorter_side is None or image.width * image.height < _LARGE_PIXELS or image.mode in ("I", "F"):
        return 1  # the range of I and F is that of the whole image
    return max(1, int(min(image.size) / shorter_side / _REDUCING_GAP))


def _resized(
    image: Image.Image, width: float, height: float, shorter_side: int, longest_ratio: float
) -> Image.Image:
    shorter = min(width, height)
    most = shorter * longest_ratio
    kept_width, kept_height = min(width, most), min(height, most)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    size = (
        max(1, round(kept_width / shorter * shorter_side)),
        max(1, round(kept_height / shorter * shorter_side)),
    )
    box = (left, top, left + kept_width, top + kept_height)
    if size == image.size and kept_width == image.width and kept_height == image.height:
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=_REDUCING_GAP)
