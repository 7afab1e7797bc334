"""Open an image from its bytes: the format by its first bytes, the size from its header, no pixel decoded.

Pillow's plugins are called directly and not through ``Image.open``, for three reasons. That function looks at
Pillow's global pixel limit after it has opened a file, and warns through the process's global warning
filters; here the limit is checked from the header, and nothing is silenced. Metadata that no pixel depends on
(text, times, a camera's notes) is left out before Pillow parses it: it is what most warnings are about. And
a suffix that does not fit the content does not matter.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    TiffTags,
    WebPImagePlugin,
)

from stages.data.exif import orientation_of
from stages.data.image_file import BrokenImageError, decoder_errors

MOST_PIXELS = 200_000_000
"""Of an image that is decoded whole: 0.8 GB as RGB in Pillow."""
MOST_PIXELS_CHECKED = 89_000_000
"""Of a GIF, TIFF or WebP: their plugins look at Pillow's own limit themselves, and this is just below it."""
_MOST_SCANS = 500  # of a progressive JPEG: each decodes the whole image once more
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


@dataclass(frozen=True)
class OpenedImage:
    """An image whose header was read. ``orientation``: 1..8 as in EXIF, still to be applied.

    ``scalable``: a decoder can give it smaller without ever holding all of it.
    """

    image: ImageFile.ImageFile
    orientation: int
    scalable: bool

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as people see it."""
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)


def check_pixels(width: int, height: int, most: int = MOST_PIXELS) -> None:
    """Raises BrokenImageError for an image with more pixels than are decoded."""
    if width * height > most:
        raise BrokenImageError("too_large", f"{width} x {height} pixels; the limit is {most}")


def format_of(data: bytes) -> str:
    """``JPEG``, ``PNG``, ...: by the first 16 bytes. Raises BrokenImageError."""
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and data[2:3].isspace():
        return "PPM"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        raise BrokenImageError("not_an_image", "HEIC and AVIF are not read: convert it to JPEG or PNG")
    raise BrokenImageError("not_an_image")


def open_image(data: bytes) -> OpenedImage:
    """Read the header of a whole file. Raises BrokenImageError."""
    name = format_of(data)
    with decoder_errors():
        return _OPENERS[name](data)


class _QuietJpeg(JpegImagePlugin.JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Left out: it parses all of EXIF, and warns about what is damaged in it."""


def _open_jpeg(data: bytes) -> OpenedImage:
    image = _QuietJpeg(io.BytesIO(data))
    progressive = "progressive" in image.info
    if progressive and data.count(b"\xff\xda") > _MOST_SCANS:
        raise BrokenImageError("too_large", f"more than {_MOST_SCANS} scans")
    exif = image.info.get("exif", b"")
    return OpenedImage(image, orientation_of(exif), not progressive and _has_one_scan(image, data))


def _has_one_scan(image: JpegImagePlugin.JpegImageFile, data: bytes) -> bool:
    """Whether the first scan holds all components; where not, libjpeg buffers the whole image."""
    if image.fp is None or not image.tile:
        return False
    length = 6 + 2 * image.layers
    start = image.fp.tell() - length - 2
    return data[start : start + 4] == b"\xff\xda" + struct.pack(">H", length)


_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _open_png(data: bytes) -> OpenedImage:
    """With the chunks that pixels depend on; an animation's first or default image is the plain PNG."""
    pieces = [data[:8]]
    exif = b""
    position = 8
    deep = data[24:25] == b"\x10"
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, position)
        end = position + 12 + length
        if kind == b"eXIf":
            exif = data[position + 8 : end - 4]
        elif kind in _PNG_KEPT and not (kind == b"tRNS" and deep):  # pixels have 8 bits by then
            pieces.append(data[position:end])
        position = end
        if kind == b"IEND":
            break
    image = PngImagePlugin.PngImageFile(io.BytesIO(b"".join(pieces)))
    transparent = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(transparent, int) and 1 <= data[24] < 8:
        image.info["transparency"] = transparent * 255 // (2 ** data[24] - 1)  # pixels have 8 bits by then
    return OpenedImage(image, orientation_of(exif), False)


def _open_gif(data: bytes) -> OpenedImage:
    """After a look at the first frame's size: Pillow makes the canvas as large as the frame."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_pixels(width, height, MOST_PIXELS_CHECKED)
    position = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    while data[position : position + 1] == b"!":
        position += 2
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    if data[position : position + 1] == b",":
        left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
        check_pixels(max(width, left + frame_width), max(height, top + frame_height), MOST_PIXELS_CHECKED)
    return OpenedImage(GifImagePlugin.GifImageFile(io.BytesIO(data)), 1, False)


def _open_webp(data: bytes) -> OpenedImage:
    """After a look at its size: the decoder makes two canvases as soon as it is opened."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    check_pixels(width, height, MOST_PIXELS_CHECKED)
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise BrokenImageError("truncated")
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    return OpenedImage(image, orientation_of(image.info.get("exif") or b""), False)


def _open_tiff(data: bytes) -> OpenedImage:
    """The first page. Pillow turns it upright itself."""
    return OpenedImage(TiffImagePlugin.TiffImageFile(io.BytesIO(_plain_tiff(data))), 1, False)


_FIELD_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_ARRAYS_OF_ONE = (1, 2, 7)  # bytes and text are one value however long they are
_SAMPLES_PER_PIXEL, _MOST_SAMPLES = 277, 6  # more are logged as an error before they are refused
_POINTERS = (330, 34665, 34853, 40965)  # to further directories: EXIF, GPS, smaller copies
_UNKNOWN_TYPE = 0xFFFF


def _plain_tiff(data: bytes) -> bytes:
    """Without the fields of the first directory that Pillow warns about, or that lead to another one.

    A field is left out by an unknown type, which readers skip. One with several values where TIFF has
    one keeps the first.
    """
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(order + "L", data, 4)[0]
    count = struct.unpack_from(order + "H", data, start)[0]
    if start + 2 + 12 * count + 4 > len(data):
        raise BrokenImageError("truncated")
    plain = bytearray(data)
    total = 0
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, offset = struct.unpack_from(order + "HHLL", data, entry)
        unit = _FIELD_BYTES.get(kind, 0)
        size = unit * number
        total += size if size > 4 else 0
        if tag == _SAMPLES_PER_PIXEL:
            samples = int.from_bytes(data[entry + 8 : entry + 8 + unit], "little" if order == "<" else "big")
            if unit > 4 or size > 4 or samples > _MOST_SAMPLES:
                raise BrokenImageError("corrupt", "too many samples per pixel")
        if tag in _POINTERS or (size > 4 and (total > len(data) or offset + size > len(data))):
            struct.pack_into(order + "H", plain, entry + 2, _UNKNOWN_TYPE)
        elif number > 1 and kind not in _ARRAYS_OF_ONE and TiffTags.lookup(tag).length == 1:
            struct.pack_into(order + "L", plain, entry + 4, 1)
            if size > 4 >= unit:
                plain[entry + 8 : entry + 12] = data[offset : offset + unit].ljust(4, b"\0")
    return bytes(plain)


def _open_bmp(data: bytes) -> OpenedImage:
    return OpenedImage(BmpImagePlugin.BmpImageFile(io.BytesIO(data)), 1, False)


def _open_ppm(data: bytes) -> OpenedImage:
    return OpenedImage(PpmImagePlugin.PpmImageFile(io.BytesIO(data)), 1, False)


_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_OPENERS: dict[str, Callable[[bytes], OpenedImage]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "GIF": _open_gif,
    "WEBP": _open_webp,
    "TIFF": _open_tiff,
    "BMP": _open_bmp,
    "PPM": _open_ppm,
}
