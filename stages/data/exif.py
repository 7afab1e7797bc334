"""How a camera was held: the one field of EXIF that changes how an image looks (CIPA DC-008, tag 0x0112)."""

from __future__ import annotations

import struct

from PIL import Image

_ORIENTATION = 0x0112
_MOST_FIELDS = 1_000
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(exif: bytes) -> int:
    """1..8 from a block of EXIF; 1 (upright) where it says nothing, or is damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        start = struct.unpack_from(order + "L", exif, 4)[0]
        count = struct.unpack_from(order + "H", exif, start)[0]
        for entry in range(start + 2, start + 2 + 12 * min(count, _MOST_FIELDS), 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION:
                value = struct.unpack_from(order + ("L" if kind == 4 else "H"), exif, entry + 8)[0]
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image as the camera's owner saw it."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
