from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.image_files import encoded, every_kind, oriented_jpeg, picture

from nasflow.base import files
from nasflow.base.errors import IntegrityError
from stages.data.inventory import Inventory, take_inventory
from stages.data.inventory_cache import CachedImage, FileState
from stages.data.listed import Listing
from stages.data.listing import list_images

LONG_AGO_NS = 1_600_000_000_123_456_789


def put(path: Path, content: bytes, time_ns: int = LONG_AGO_NS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label in ("猫", "b"):
        for index in range(3):
            put(tmp_path / f"data/{label}/{index}.jpg", encoded(picture(seed=index + len(label)), "JPEG"))
    put(tmp_path / "data/b/turned.jpg", oriented_jpeg(picture(), 6))
    put(tmp_path / "data/b/cut.png", every_kind()["png"][:400])
    put(tmp_path / "data/b/text.gif", b"no image")
    (tmp_path / "data/b/empty.jpg").touch()
    return tmp_path / "data"


def corner(image: Image.Image) -> bytes:
    assert image.mode == "RGB"
    return image.resize((2, 2)).tobytes()


def look(root: Path, listing: Listing | None = None, *, key: str = "corner 1") -> Inventory:
    listing = list_images(root) if listing is None else listing
    return take_inventory(
        listing, corner, describe_key=key, shorter_side=16, workers=2, cache_folder=root.parent / "cache"
    )


def descriptors_of(inventory: Inventory) -> dict[str, bytes | None]:
    return {image.path: inventory.descriptor(n) for n, image in enumerate(inventory.images)}


def test_each_image_is_described_or_named_as_broken(root: Path) -> None:
    inventory = look(root)
    assert [image.path for image in inventory.images] == [image.path for image in inventory.listing.images]
    assert {image.path: image.broken for image in inventory.broken} == {
        "b/cut.png": "truncated", "b/empty.jpg": "empty", "b/text.gif": "not_an_image"
    }  # fmt: skip
    by_path = {image.path: image for image in inventory.images}
    turned = by_path["b/turned.jpg"]
    assert (turned.width, turned.height, turned.format) == (30, 40, "JPEG")
    assert turned.size_bytes == (root / "b/turned.jpg").stat().st_size
    assert turned.sha256 == files.hash_or_none(root / "b/turned.jpg")
    descriptors = descriptors_of(inventory)
    assert len(descriptors["b/turned.jpg"] or b"") == 12
    assert (by_path["b/cut.png"].width, descriptors["b/cut.png"]) == (40, None)


def test_a_second_look_reads_no_image_and_finds_the_same(root: Path) -> None:
    first = look(root)
    (root / "b/empty.jpg").touch()
    os.utime(root / "b/empty.jpg", ns=(LONG_AGO_NS, LONG_AGO_NS))
    look(root)
    again = look(root)
    assert first.read == len(first.images)
    assert again.read == 0
    assert again.images == first.images
    assert again.digest() == first.digest()
    assert descriptors_of(again) == descriptors_of(first)


def test_descriptors_of_what_did_not_change_are_kept(root: Path) -> None:
    before = descriptors_of(look(root))
    put(root / "b/0.jpg", encoded(picture(seed=77), "JPEG"))
    (root / "b/1.jpg").unlink()
    after = descriptors_of(look(root))
    assert {path for path in after if after[path] != before[path]} == {"b/0.jpg"}
    assert after == descriptors_of(look(root))
    assert len(list((root.parent / "cache").glob("*.descriptors"))) == 1


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_images_whose_descriptors_are_not_there_are_read_anew(root: Path, damage: str) -> None:
    before = descriptors_of(look(root))
    (path,) = (root.parent / "cache").glob("*.descriptors")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    again = look(root)
    assert again.read == 10
    assert descriptors_of(again) == before


def test_a_damaged_descriptor_is_an_error_that_names_its_file(root: Path) -> None:
    look(root)
    (path,) = (root.parent / "cache").glob("*.descriptors")
    content = path.read_bytes()
    path.write_bytes(content[:5] + bytes([content[5] ^ 1]) + content[6:])
    with pytest.raises(IntegrityError, match=path.name):
        descriptors_of(look(root))


def test_what_changed_is_read_again(root: Path) -> None:
    listing = list_images(root)
    look(root)
    os.utime(root / "b/empty.jpg", ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = look(root)
    same_size = bytearray((root / "b/0.jpg").read_bytes())
    same_size[-10] ^= 1
    was_ns = (root / "b/0.jpg").stat().st_ctime_ns
    while (root / "b/0.jpg").stat().st_ctime_ns == was_ns:  # until the file system's clock has ticked
        put(root / "b/0.jpg", bytes(same_size))  # of equal size and time: the inode's own time differs
    (root / "b/2.jpg").unlink()
    after = look(root, listing)
    assert after.read == 2
    assert {image.path for image in after.broken} - {image.path for image in before.broken} == {"b/2.jpg"}
    assert after.digest() != before.digest()


@pytest.mark.parametrize(
    ("mtime_ns", "looked_ns", "settled"),
    [
        (10**18 + 1, 10**18 + 10_000_001, False),  # within one tick of Linux's clock
        (10**18 + 1, 10**18 + 30_000_001, True),
        (10**18, 10**18 + 1_500_000_000, False),  # whole seconds: maybe a FAT disk
        (10**18, 10**18 + 3_000_000_000, True),
        (4 * 10**18, 10**18, True),  # a camera whose clock is ahead
    ],
)
def test_a_file_that_was_just_written_is_not_trusted(mtime_ns: int, looked_ns: int, settled: bool) -> None:
    state = FileState(1, mtime_ns, mtime_ns, 1)
    assert CachedImage(state, looked_ns, None, None, None, None, None, "", None).is_settled() == settled


def test_another_descriptor_is_made_anew(root: Path) -> None:
    look(root)
    assert look(root, key="corner 2").read == 10


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "other version", "folder"])
def test_a_damaged_cache_is_made_anew(root: Path, damage: str) -> None:
    first = look(root)
    (path,) = (root.parent / "cache").glob("*.jsonl")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(
        {"cut": content[: len(content) // 2], "empty": b"", "text": b"[1]\n[[[", "flip": content,
         "other version": content.replace(b'"version": 2', b'"version": 1'), "folder": b""}[damage]
    )  # fmt: skip
    if damage == "folder":
        path.unlink()
        path.mkdir()
    again = look(root)
    assert (again.read, again.images) == (10, first.images)
    assert (again.cache_fault is not None) == (damage == "folder")


def test_looks_side_by_side_do_not_harm_the_cache(root: Path) -> None:
    listing = list_images(root)
    found: list[Inventory] = []
    threads = [threading.Thread(target=lambda: found.append(look(root, listing))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({inventory.digest() for inventory in found}) == 1
    assert len(found) == 6
    assert look(root, listing).read <= 1  # the empty file is just made
    assert len(list((root.parent / "cache").glob("*.jsonl"))) == 1


def test_a_cache_that_cannot_be_kept_is_told_and_is_no_error(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    if files.cache_folder().is_relative_to(tmp_path):
        inventory = take_inventory(list_images(root))
        assert inventory.cache_fault is not None
        assert inventory.cache_fault.exit_code == 8
        assert len(inventory.images) == 10


def test_nothing_is_written_into_the_folder(root: Path) -> None:
    before = sorted(str(path) for path in root.rglob("*"))
    look(root)
    assert sorted(str(path) for path in root.rglob("*")) == before


def test_the_digest_depends_on_every_field_and_on_no_order_or_place(root: Path) -> None:
    inventory = look(root)
    listing, images = inventory.listing, inventory.images
    backwards = Inventory(replace(listing, images=listing.images[::-1]), images[::-1], 0)
    assert backwards.digest() == inventory.digest()
    shutil.copytree(root, root.parent / "copy")
    assert take_inventory(list_images(root.parent / "copy"), cache_folder=root.parent / "c").digest() == (
        inventory.digest()
    )
    first = listing.images[0]
    for other in (
        replace(first, path="b/x.jpg"), replace(first, label="猫"), replace(first, part="test"),
        replace(first, group=""), replace(first, group="g"),
    ):  # fmt: skip
        changed = Inventory(replace(listing, images=(other, *listing.images[1:])), images, 0)
        assert changed.digest() != inventory.digest()
    hashed = Inventory(listing, (replace(images[0], sha256="0" * 64), *images[1:]), 0)
    assert hashed.digest() != inventory.digest()


def test_progress_ends_at_the_number_of_images(root: Path) -> None:
    reports: list[tuple[int, int]] = []
    take_inventory(
        list_images(root),
        progress=lambda done, total: reports.append((done, total)),
        cache_folder=root.parent / "c",
    )
    assert reports[0] == (0, 10)
    assert reports[-1] == (10, 10)
