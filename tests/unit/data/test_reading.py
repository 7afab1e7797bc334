from __future__ import annotations

import io
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops
from support.image_files import encoded, every_kind, oriented_jpeg, picture, png

from stages.data.image_header import MOST_PIXELS_CHECKED
from stages.data.reading import (
    BrokenImageError,
    ImageSize,
    Reason,
    decode_image,
    measure_bytes,
    measure_image,
    read_image,
)

KINDS = every_kind()
RGB = picture()


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference of the pixels."""
    assert (first.mode, first.size) == (second.mode, second.size)
    return float(np.abs(np.asarray(first, np.int16) - np.asarray(second, np.int16)).mean())


def reason_of(data: bytes) -> Reason:
    with pytest.raises(BrokenImageError) as caught:
        decode_image(data)
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_read_as_rgb_and_as_grey(kind: str) -> None:
    image, grey = decode_image(KINDS[kind]), decode_image(KINDS[kind], channels=1)
    size = measure_bytes(KINDS[kind])
    assert (image.mode, grey.mode) == ("RGB", "L")
    assert image.size == grey.size == (size.width, size.height)
    assert type(image) is type(grey) is Image.Image
    assert image.info == {}
    assert difference(image.convert("L"), grey) < 2


@pytest.mark.parametrize(
    "kind", ["jpeg", "jpeg progressive", "mpo", "png", "apng", "gif", "gif animated", "bmp", "tiff",
             "jpeg cmyk", "tiff jpeg", "tiff cmyk", "tiff pages", "ppm"]
)  # fmt: skip
def test_the_picture_is_what_was_written(kind: str) -> None:
    assert difference(decode_image(KINDS[kind]), RGB) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_of_exif_is_applied(orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.open(io.BytesIO(encoded(RGB, name, exif=exif)))
    operation = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)  # fmt: skip
    expected = RGB if operation is None else RGB.transpose(operation)
    data = encoded(RGB, name, exif=exif)
    assert stored.format == name
    assert difference(decode_image(data), expected) < 6
    assert measure_bytes(data) == ImageSize(*expected.size, name)


def test_damaged_exif_leaves_the_image_as_it_is() -> None:
    data = oriented_jpeg(RGB, 6)
    start = data.index(b"Exif\0\0") + 6
    for cut in range(8):
        damaged = data[: start + cut] + b"\xff" * (40 - cut) + data[start + 40 :]
        assert decode_image(damaged).size in ((40, 30), (30, 40))


def test_transparent_pixels_are_white() -> None:
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (200, 0, 0, 128))
    assert decode_image(encoded(clear, "PNG")).getpixel((3, 3)) == (255, 255, 255)
    assert decode_image(encoded(half, "PNG")).getpixel((3, 3)) == (227, 127, 127)
    assert decode_image(encoded(half, "PNG"), shorter_side=5).getpixel((3, 3)) == (227, 127, 127)
    assert decode_image(encoded(clear.convert("LA"), "PNG"), channels=1).getpixel((3, 3)) == 255
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    for name in ("PNG", "GIF"):
        assert decode_image(encoded(palette, name)).getpixel((3, 3)) == (200, 0, 0)
        assert decode_image(encoded(palette, name, transparency=1)).getpixel((3, 3)) == (255, 255, 255)
    several = encoded(palette, "PNG", transparency=bytes([255, 128]))
    assert decode_image(several).getpixel((3, 3)) == (227, 127, 127)


@pytest.mark.parametrize(("depth", "level"), [(1, 1), (2, 2), (4, 9), (8, 200)])
def test_one_transparent_grey_level_is_white_at_every_depth(depth: int, level: int) -> None:
    row = bytes([0, level << (8 - depth)])
    shown = level * 255 // (2**depth - 1)
    assert decode_image(png(1, 1, depth, 0, row), channels=1).getpixel((0, 0)) == shown
    clear = png(1, 1, depth, 0, row, (b"tRNS", level.to_bytes(2, "big")))
    assert decode_image(clear, channels=1).getpixel((0, 0)) == 255


def test_16_bits_are_scaled_and_not_cut() -> None:
    values = np.array([[0, 256, 257, 12345, 32768, 65279, 65535]], np.uint16)
    expected = [round(int(value) / 257) for value in values[0]]
    tiff = encoded(Image.fromarray(values), "TIFF")
    for data in (
        encoded(Image.fromarray(values), "PNG"),
        tiff,
        b"P5 7 1 65535\n" + values.astype(">u2").tobytes(),
    ):
        assert np.asarray(decode_image(data, channels=1)).tolist() == [expected]
    big_endian = tiff_of_big_endian(values)
    assert np.asarray(decode_image(big_endian, channels=1)).tolist() == [expected]
    colours = np.array([0, 65535, 32896], ">u2").tobytes()
    assert decode_image(png(1, 1, 16, 2, b"\0" + colours)).getpixel((0, 0)) == (0, 255, 128)
    clear = png(1, 1, 16, 2, b"\0" + colours, (b"tRNS", colours))
    assert decode_image(clear).getpixel((0, 0)) == (0, 255, 128)


def tiff_of_big_endian(values: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> bytes:
    image = Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())
    return encoded(image, "TIFF")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([float("nan"), float("inf"), 1.0], [0, 0, 255]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
        ([7e9, 7e9, 7e9], [0, 0, 0]),
    ],
)  # fmt: skip
def test_floats_are_scaled_by_the_first_range_that_holds_them(
    values: list[float], expected: list[int]
) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    decoded = np.asarray(decode_image(encoded(image, "TIFF"), channels=1))
    assert decoded.tolist() == [expected]


def test_adobes_inverted_inks_and_ycck_give_the_colour_that_was_meant() -> None:
    inks = Image.new("CMYK", (16, 16), (55, 155, 205, 0))
    plain = encoded(inks, "JPEG", quality=95, subsampling=0)
    assert difference(decode_image(plain), Image.new("RGB", (16, 16), (200, 100, 50))) < 3
    y, cb, cr = Image.new("RGB", (16, 16), (55, 155, 205)).convert("YCbCr").split()
    stored = Image.merge("CMYK", [*map(ImageChops.invert, (y, cb, cr)), Image.new("L", (16, 16))])
    ycck = encoded(stored, "JPEG", quality=95, subsampling=0)
    transform = ycck.index(b"Adobe") + 11
    assert ycck[transform] == 0
    ycck = ycck[:transform] + b"\2" + ycck[transform + 1 :]
    assert difference(decode_image(ycck), Image.new("RGB", (16, 16), (200, 100, 50))) < 3


@pytest.mark.parametrize("side", [8, 20, 37, 64, 100, 150, 333])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_the_shorter_side_is_as_asked_and_the_shape_is_kept(
    side: int, channels: Literal[1, 3], name: str
) -> None:
    image = picture(417, 301)
    decoded = decode_image(encoded(image, name, quality=95), channels=channels, shorter_side=side)
    assert decoded.size == (round(side * 417 / 301), side)
    expected = image.resize(decoded.size, Image.Resampling.BILINEAR).convert("RGB" if channels == 3 else "L")
    assert difference(decoded, expected) < 4


@pytest.mark.parametrize(("width", "height"), [(3000, 10), (10, 3000), (1, 1), (1, 9), (2, 1)])
def test_of_a_very_long_image_the_middle_is_taken(width: int, height: int) -> None:
    image = picture(width, height)
    data = encoded(image, "PNG")
    decoded = decode_image(data, shorter_side=16)
    assert min(decoded.size) == 16
    assert max(decoded.size) == min(64, round(16 * max(width, height) / min(width, height)))
    if max(width, height) == 3000:  # the middle of the gradient, and little of it
        along = np.asarray(decoded)[..., 0 if width > height else 1]
        assert 120 <= along.min() <= along.max() <= 135
        assert max(decode_image(data, shorter_side=16, longest_ratio=2).size) == 32
    assert decode_image(data).size == (width, height)


def test_a_jpeg_is_scaled_while_it_is_decoded() -> None:
    data = encoded(Image.new("L", (16_000, 13_000), 90), "JPEG", quality=50)
    assert reason_of(data) == "too_large"
    image = decode_image(data, shorter_side=64)
    assert image.size == (79, 64)
    assert difference(image, Image.new("RGB", image.size, (90, 90, 90))) < 3
    assert measure_bytes(data) == ImageSize(16_000, 13_000, "JPEG")


def test_a_large_progressive_jpeg_is_refused_as_its_decoder_holds_all_of_it() -> None:
    data = bytearray(encoded(Image.new("L", (16, 16)), "JPEG", progressive=True))
    size = data.index(b"\xff\xc2") + 5
    data[size : size + 4] = (15_000).to_bytes(2, "big") + (14_000).to_bytes(2, "big")
    with pytest.raises(BrokenImageError, match="14000 x 15000 pixels") as caught:
        decode_image(bytes(data), shorter_side=64)
    assert caught.value.reason == "too_large"


def test_a_bomb_is_refused_before_it_is_decoded_and_a_long_image_is_read(tmp_path: Path) -> None:
    side = 30_000
    stripes = b"".join([b"\0" + b"\xff" * (side // 8)] * side)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png(side, side, 1, 0, stripes))
    del stripes
    assert bomb.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(BrokenImageError) as caught:
        read_image(bomb, shorter_side=64)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert caught.value.reason == "too_large"
    assert measure_image(bomb) == ImageSize(side, side, "PNG")
    long = encoded(Image.new("RGB", (side, 100), (1, 2, 3)), "PNG")
    assert decode_image(long, shorter_side=50).size == (200, 50)
    assert decode_image(long).size == (side, 100)


@pytest.mark.parametrize("name", ["GIF", "WEBP"])
def test_a_canvas_too_large_is_refused_before_it_is_made(name: str) -> None:
    data = bytearray(KINDS["gif" if name == "GIF" else "webp lossless alpha"])
    if name == "GIF":
        data[6:10] = b"\xff\xff\xff\xff"
    else:
        data[21:25] = b"\xff\xff\xff\x1f"
    assert reason_of(bytes(data)) == "too_large"
    frame = bytearray(KINDS["gif"])
    position = frame.index(b"\0\0\0\0" + bytes(frame[6:10]))
    frame[position + 4 : position + 8] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(frame)) == "too_large"


@pytest.mark.parametrize("mode", ["P", "RGBA", "1", "I;16", "RGB"])
def test_a_large_image_is_reduced_band_by_band_to_the_same_picture(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(500, 301)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.quantize(32) if mode == "P" else image.convert(mode)
    data = encoded(image, "PNG", **({"transparency": 5} if mode == "P" else {}))
    expected = decode_image(data, shorter_side=20)
    monkeypatch.setattr("stages.data.reading._LARGE_PIXELS", 1_000)
    monkeypatch.setattr("stages.data.pixels._BAND_PIXELS", 7_000)
    assert difference(decode_image(data, shorter_side=20), expected) < 1


def test_pillows_own_limit_stays_as_it_is() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MOST_PIXELS_CHECKED <= Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (KINDS["jpeg"][:400], "truncated"),
        (KINDS["png"][:400], "truncated"),
        (KINDS["gif"][:900], "truncated"),
        (KINDS["bmp"][:900], "truncated"),
        (KINDS["webp"][:200], "truncated"),
        (KINDS["tiff"][:900], "truncated"),
        (KINDS["ppm"][:900], "truncated"),
        (b"\xff\xd8\xff", "corrupt"),
        (b"This is no image.", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "not_an_image"),
        (KINDS["png"].replace(b"IDAT", b"IDAX"), "corrupt"),
    ],
)
def test_broken_content_says_in_which_way(data: bytes, reason: Reason) -> None:
    assert reason_of(data) == reason


def test_broken_files_say_in_which_way(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    cases: dict[str, Reason] = {"empty.jpg": "empty", "folder.jpg": "unreadable", "gone.jpg": "missing"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        cases["pipe.jpg"] = "unreadable"
    if os.name != "nt" and os.geteuid() != 0:
        (tmp_path / "secret.jpg").write_bytes(KINDS["jpeg"])
        (tmp_path / "secret.jpg").chmod(0)
        cases["secret.jpg"] = "unreadable"
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "linked.jpg")
    cases["linked.jpg"] = "unreadable"
    cases["nul\0.jpg"] = "unreadable"
    for name, reason in cases.items():
        for read in (read_image, measure_image):
            with pytest.raises(BrokenImageError) as caught:
                read(tmp_path / name)
            assert caught.value.reason == reason


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    path.write_bytes(KINDS["png"])
    assert difference(read_image(path), RGB) == 0
    assert measure_image(path) == ImageSize(40, 30, "PNG")


def test_a_size_behind_much_metadata_is_found(tmp_path: Path) -> None:
    path = tmp_path / "profile.jpg"
    path.write_bytes(encoded(RGB, "JPEG", icc_profile=b"p" * 200_000))
    assert measure_image(path) == ImageSize(40, 30, "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8))
    path.write_bytes(encoded(noise, "WEBP", exif=exif, lossless=True))
    assert measure_image(path) == ImageSize(300, 200, "WEBP")


def test_the_error_passes_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BrokenImageError("corrupt", "bad checksum")))
    assert (error.reason, error.detail) == ("corrupt", "bad checksum")


_EDIT = st.tuples(st.integers(0, 2**20), st.integers(0, 255))


@settings(max_examples=150)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    anywhere=st.lists(_EDIT, max_size=6),
    in_header=st.lists(_EDIT, max_size=3),
    kept=st.floats(0, 1) | st.just(1.0),
)
def test_flipped_bytes_give_an_image_or_a_broken_image_error_and_no_message(
    kind: str, anywhere: list[tuple[int, int]], in_header: list[tuple[int, int]], kept: float
) -> None:
    data = bytearray(KINDS[kind])
    for position, value in anywhere:
        data[position % len(data)] = value
    for position, value in in_header:
        data[position % min(len(data), 200)] = value
    content = bytes(data[: int(kept * len(data))]) or b"\0"
    for options in ({}, {"channels": 1, "shorter_side": 8}):
        try:
            image = decode_image(content, **options)  # type: ignore[arg-type]
        except BrokenImageError as error:
            assert error.reason
        else:
            assert image.mode == ("L" if options else "RGB")
    try:
        assert measure_bytes(content).width > 0
    except BrokenImageError as error:
        assert error.reason
