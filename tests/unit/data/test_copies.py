"""Copies of pictures that the tests draw themselves: which are found, and what is no copy of anything."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from nasflow.base.errors import IntegrityError
from stages.data.copies import Copies, find_copies
from stages.data.descriptors import DESCRIPTOR_BYTES, ImageDescriptor, describe
from stages.data.sets import linked_sets

SIZE = (300, 220)


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of random ellipses, boxes and lines in random colours: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(level) for level in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = (int(rng.integers(0, side)) for side in size)
        width, height = (int(rng.integers(side // 10, side // 2)) for side in size)
        box = (x - width // 2, y - height // 2, x + width // 2, y + height // 2)
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour)
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    written = io.BytesIO()
    image.save(written, "JPEG", quality=quality)
    return Image.open(io.BytesIO(written.getvalue())).convert("RGB")


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def resized(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


CHANGED = {
    "recompressed": lambda image: jpeg(image, 40),
    "half the size": lambda image: resized(image, 0.5),
    "mirrored": ImageOps.mirror,
    "cropped left": lambda image: cropped(image, 0.05, 0, 0, 0),
    "cropped below": lambda image: cropped(image, 0, 0, 0, 0.05),
    "cropped all around": lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05),
    "cropped by a little": lambda image: cropped(image, 0.02, 0.03, 0.01, 0.04),
    "mirrored and cropped": lambda image: cropped(ImageOps.mirror(image), 0, 0.05, 0, 0),
    "resized and recompressed": lambda image: jpeg(resized(image, 0.6), 50),
    "cropped and recompressed": lambda image: jpeg(cropped(image, 0, 0, 0.05, 0), 40),
    "stretched": lambda image: image.resize((200, 200)),
    "with an opaque alpha channel": lambda image: image.convert("RGBA"),
}


def found(*images: Image.Image) -> Copies:
    return find_copies([str(number) for number in range(len(images))], [describe(image) for image in images])


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_copy_is_found_among_other_pictures(change: str) -> None:
    images = [scene(seed) for seed in range(12)]
    copies = found(*images, CHANGED[change](images[3]))
    assert copies.near == ((3, 12),)
    assert copies.pairs[0].mirrored == ("mirrored" in change)
    assert 0 <= copies.pairs[0].distance <= 0.025


def test_distinct_pictures_are_no_copies() -> None:
    assert found(*(scene(seed) for seed in range(150))).near == ()


def test_a_changed_detail_of_a_tenth_of_the_picture_is_no_copy() -> None:
    image = scene(1)
    other = image.copy()
    ImageDraw.Draw(other).rectangle((120, 90, 180, 130), fill="white", outline="black", width=8)
    ImageDraw.Draw(image).rectangle((120, 90, 180, 130), fill="black")
    assert found(image, other).near == ()


def test_another_colour_of_all_is_no_copy() -> None:
    image = scene(2)
    assert found(image, Image.merge("RGB", image.split()[::-1])).near == ()


def test_pictures_of_one_colour_are_copies_of_none() -> None:
    flat = [Image.new("RGB", (40, 40), colour) for colour in ("white", "white", "red", "black")]
    assert found(*flat, jpeg(flat[2], 40)).near == ()


def test_a_thin_rim_on_one_colour_is_blank() -> None:
    rim = Image.new("L", (400, 400), 0)
    ImageDraw.Draw(rim).rectangle((0, 0, 399, 399), outline=90)
    assert describe(rim).is_blank
    assert not describe(scene(0)).is_blank


def test_single_pixels_and_lines_have_descriptors() -> None:
    for size in ((1, 1), (1, 4000), (4000, 1), (2, 2)):
        for mode in ("RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "I;16"):
            assert len(describe(Image.new(mode, size)).to_bytes()) == DESCRIPTOR_BYTES


def test_transparent_colours_do_not_count() -> None:
    image = scene(4).convert("RGBA")
    image.putalpha(0)
    other = scene(5).convert("RGBA")
    other.putalpha(0)
    assert describe(image) == describe(other)


def test_a_white_drawing_on_nothing_is_seen() -> None:
    drawings = []
    for seed in (6, 7):
        drawing = Image.new("RGBA", SIZE, (255, 255, 255, 0))
        drawing.putalpha(scene(seed).convert("L").point(lambda level: 255 if level > 128 else 0))
        drawings.append(drawing)
    assert found(*drawings, resized(drawings[0], 0.7)).near == ((0, 2),)


def test_transparency_of_a_palette_is_seen() -> None:
    image = scene(8).convert("P")
    image.info["transparency"] = image.getpixel((0, 0))
    assert describe(image) == describe(image.convert("RGBA"))


def test_exact_copies_are_equal_hashes_and_join_near_sets() -> None:
    one, other = describe(scene(0)), describe(ImageOps.mirror(scene(0)))
    copies = find_copies(["a", "b", "a", "c"], [one, other, one, describe(scene(9))])
    assert copies.exact == ((0, 2),)
    assert copies.near == ((0, 1, 2),)
    assert copies.exact_set_of() == [0, None, 0, None]
    assert copies.near_set_of() == [0, 0, 0, None]


def test_copies_of_a_copy_are_in_one_set() -> None:
    image = scene(10)
    once = cropped(image, 0.05, 0, 0, 0)
    assert found(image, once, cropped(once, 0, 0.05, 0, 0)).near == ((0, 1, 2),)


def test_above_the_limit_only_exact_copies_are_found() -> None:
    one = describe(scene(0))
    copies = find_copies(["a", "b", "a"], [one, one, one], near_limit=1)
    assert (copies.near, copies.pairs, copies.searched_near) == (((0, 2),), (), False)


def test_blocks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [scene(seed) for seed in range(15)]
    images += [cropped(image, 0, 0.05, 0, 0) for image in images[::3]]
    expected = found(*images)
    monkeypatch.setattr("stages.data.near_copies._COLUMNS", 8)
    monkeypatch.setattr("stages.data.near_copies._ROWS", 3)
    monkeypatch.setattr("stages.data.near_copies._PAIRS", 2)
    assert found(*images).near == expected.near == tuple((3 * n, 15 + n) for n in range(5))


def test_the_order_of_the_images_does_not_change_the_sets() -> None:
    images = [scene(seed) for seed in range(6)] + [resized(scene(2), 0.6), cropped(scene(4), 0, 0, 0.05, 0)]
    there = {frozenset(members) for members in found(*images).near}
    back = {frozenset(7 - number for number in members) for members in found(*images[::-1]).near}
    assert there == back == {frozenset((2, 6)), frozenset((4, 7))}


def test_progress_ends_at_one() -> None:
    heard: list[float] = []
    find_copies(["a", "b"], [describe(scene(0)), describe(scene(1))], on_progress=heard.append)
    assert heard[-1] == 1.0


def test_no_images_have_no_copies() -> None:
    assert find_copies([], []) == Copies(0, (), (), (), searched_near=True)


def test_a_descriptor_comes_back_from_its_bytes() -> None:
    descriptor = describe(scene(11))
    assert ImageDescriptor.from_bytes(descriptor.to_bytes()) == descriptor
    with pytest.raises(IntegrityError, match="17 bytes instead of"):
        ImageDescriptor.from_bytes(bytes(17))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_linked_sets_are_a_partition_that_no_pair_leaves(pairs: list[tuple[int, int]]) -> None:
    sets = linked_sets(20, pairs)
    assert sorted(number for members in sets for number in members) == list(range(20))
    home = {number: members for members in sets for number in members}
    assert all(home[one] == home[other] for one, other in pairs)
    assert linked_sets(20, pairs[::-1]) == sets


class ReadAnew(Sequence[ImageDescriptor]):
    """Descriptors of noise, made whenever one is asked for; ``most``: that were there at a time."""

    def __init__(self, count: int) -> None:
        self.count, self.most = count, 0
        self.there: WeakSet[Descriptor] = WeakSet()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        content = np.random.default_rng(index).integers(0, 256, DESCRIPTOR_BYTES, np.uint8).tobytes()
        descriptor = Descriptor(content[:2304], content[2304:2560], content[2560:])
        self.there.add(descriptor)
        self.most = max(self.most, len(self.there))
        return descriptor


class Descriptor(ImageDescriptor):
    """One that is told from all others, equal or not."""

    __eq__, __hash__ = object.__eq__, object.__hash__


def test_descriptors_are_read_in_blocks_whatever_their_number() -> None:
    images = ReadAnew(3_000)
    hashes = [str(number) for number in range(len(images))]
    copies = find_copies(hashes, images)
    assert copies.pairs == ()
    assert copies.searched_near
    assert images.most <= 1_025  # a block, and one that is looked at
