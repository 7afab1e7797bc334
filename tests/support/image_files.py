"""Real image files of every kind that people have, made by Pillow or, where it cannot write them, by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """A smooth RGB picture, which JPEG keeps well: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    blue = 60 + 40 * np.sin(x / 7 + seed) * np.cos(y / 5)
    red, green = 255 * x / max(1, width - 1), 255 * y / max(1, height - 1)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    """The bytes of a file of that format."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def oriented_jpeg(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose EXIF says how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera maker"
    return encoded(image, "JPEG", exif=exif, quality=95)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, for kinds that Pillow does not write. ``rows``: each with its filter byte first."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def every_kind() -> dict[str, bytes]:
    """A small file of each kind, by name."""
    rgb = picture()
    alpha = Image.linear_gradient("L").resize(rgb.size)
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    palette = rgb.quantize(16)
    grey16 = Image.fromarray((np.arange(1200).reshape(30, 40) * 54).astype(np.uint16))
    return {
        "jpeg": encoded(rgb, "JPEG"),
        "jpeg progressive": encoded(rgb, "JPEG", progressive=True),
        "jpeg grey": encoded(rgb.convert("L"), "JPEG"),
        "jpeg cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "jpeg exif": oriented_jpeg(rgb, 6),
        "mpo": _frames("MPO"),
        "png": encoded(rgb, "PNG"),
        "png alpha": encoded(rgba, "PNG", exif=_exif(8)),
        "png palette": encoded(palette, "PNG"),
        "png palette transparent": encoded(palette, "PNG", transparency=3),
        "png grey alpha": encoded(rgba.convert("LA"), "PNG"),
        "png 16 bits": encoded(grey16, "PNG"),
        "png 1 bit": encoded(rgb.convert("1"), "PNG"),
        "apng": _frames("PNG", duration=50),
        "webp": encoded(rgb, "WEBP", exif=_exif(3)),
        "webp lossless alpha": encoded(rgba, "WEBP", lossless=True),
        "webp animated": _frames("WEBP", duration=50),
        "gif": encoded(rgb, "GIF"),
        "gif animated": _frames("GIF", duration=50),
        "bmp": encoded(rgb, "BMP"),
        "tiff": encoded(rgb, "TIFF"),
        "tiff lzw": encoded(rgb, "TIFF", compression="tiff_lzw", exif=_exif(6)),
        "tiff jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff cmyk": encoded(rgb.convert("CMYK"), "TIFF"),
        "tiff float": encoded(rgb.convert("F"), "TIFF"),
        "tiff 16 bits": encoded(grey16, "TIFF"),
        "tiff pages": _frames("TIFF"),
        "ppm": encoded(rgb, "PPM"),
        "pgm 16 bits": b"P5 40 30 65535\n" + np.asarray(grey16).astype(">u2").tobytes(),
    }


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0131] = "A program"
    return exif


def _frames(name: str, **options: Any) -> bytes:
    first, *rest = (picture(seed=seed) for seed in range(3))  # saving leaves settings in an image
    return encoded(first, name, save_all=True, append_images=rest, **options)
