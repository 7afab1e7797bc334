"""What is kept of an image to find its copies later: a thumbnail of 2.8 kB, whatever the image's size.

The thumbnail is stretched to a square, so that a copy of another height-to-width ratio is found too. Alpha
is composited on white, as most programs do that write a JPEG; a white drawing on nothing would vanish there,
so an image that is blank on white is composited on black instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasflow.base.errors import IntegrityError

if TYPE_CHECKING:
    from PIL.Image import Image

LUMA_SIDE = 48
CHROMA_SIDE = 16
_LUMA_BYTES = LUMA_SIDE * LUMA_SIDE
_CHROMA_BYTES = CHROMA_SIDE * CHROMA_SIDE
DESCRIPTOR_BYTES = _LUMA_BYTES + 2 * _CHROMA_BYTES
BLANK_DEVIATION = 4.0
"""An image whose grey levels have a smaller standard deviation is of one colour, but for a spot or a thin rim
that a crop takes away: such images are copies of none, unless their files are equal."""


@dataclass(frozen=True)
class ImageDescriptor:
    """A thumbnail, row by row, levels 0 to 255: ``luma`` 48 x 48, ``blue`` (Cb) and ``red`` (Cr) 16 x 16."""

    luma: bytes
    blue: bytes
    red: bytes

    @property
    def is_blank(self) -> bool:
        """Whether next to nothing is to be seen."""
        import numpy as np

        return bool(np.frombuffer(self.luma, np.uint8).std() < BLANK_DEVIATION)

    def to_bytes(self) -> bytes:
        """2,816 bytes, to be stored; :meth:`from_bytes` takes them back."""
        return self.luma + self.blue + self.red

    @classmethod
    def from_bytes(cls, content: bytes) -> ImageDescriptor:
        """What :meth:`to_bytes` gave. Raises IntegrityError where the length is another."""
        if len(content) != DESCRIPTOR_BYTES:
            raise IntegrityError(
                f"A stored image descriptor has {len(content)} bytes instead of {DESCRIPTOR_BYTES}.",
                hint="Delete the stored descriptors; they are computed again.",
            )
        luma, chroma = content[:_LUMA_BYTES], content[_LUMA_BYTES:]
        return cls(luma, chroma[:_CHROMA_BYTES], chroma[_CHROMA_BYTES:])


def describe(image: Image) -> ImageDescriptor:
    """The descriptor of a decoded image, turned as its EXIF orientation says, of any mode and size."""
    import PIL.Image

    if "transparency" in image.info or image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "RGBA", "L"):
        image = image.convert("RGB")
    # Pillow multiplies colours by alpha before it averages: resizing first changes nothing but the time.
    side = (LUMA_SIDE, LUMA_SIDE)
    small = image.resize(side, PIL.Image.Resampling.BILINEAR, reducing_gap=3.0)
    if small.mode != "RGBA":
        return _from_opaque(small)
    on_white = _composited(small, 255)
    descriptor = _from_opaque(on_white)
    return _from_opaque(_composited(small, 0)) if descriptor.is_blank else descriptor


def _composited(image: Image, grey: int) -> Image:
    import PIL.Image

    background = PIL.Image.new("RGBA", image.size, (grey, grey, grey, 255))
    return PIL.Image.alpha_composite(background, image).convert("RGB")


def _from_opaque(image: Image) -> ImageDescriptor:
    luma, blue, red = image.convert("RGB").convert("YCbCr").split()
    return ImageDescriptor(luma.tobytes(), blue.reduce(3).tobytes(), red.reduce(3).tobytes())
