"""Splits of made-up items: what never straddles, what is left out, which inputs are refused."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow.base.errors import UsageError
from stages.data.dataset import PARTS
from stages.data.splitting import (
    Item,
    Shares,
    Splitting,
    find_conflicts,
    fold_items,
    sets_of,
    split_items,
)

NAMES = ("cat", "dog", "bird")


def single(count: int, label: int, **fields: object) -> list[Item]:
    return [Item(f"{label}/{number:04}.png", label, **fields) for number in range(count)]  # type: ignore[arg-type]


def three_classes(count: int = 40) -> list[Item]:
    return [item for label in range(3) for item in single(count, label)]


def part_of(splitting: Splitting, key: str) -> str | None:
    return splitting.parts.get(key)


@st.composite
def linked_items(draw: st.DrawFn) -> list[Item]:
    """Images with groups, copies (of which some are exact) and given parts, and enough single ones."""
    given_parts = draw(
        st.sampled_from([(None,), ("train",), ("train", "test"), ("train", "validation", "test")])
    )
    items = []
    for number in range(draw(st.integers(0, 60))):
        copy_set = draw(st.none() | st.integers(0, 12))
        items.append(
            Item(
                key=f"linked/{number}.png",
                label=draw(st.integers(0, 2)),
                given=draw(st.sampled_from(given_parts)),
                group=draw(st.none() | st.sampled_from("abcdefgh")),
                copy_set=copy_set,
                exact_set=None if copy_set is None else draw(st.none() | st.just(copy_set)),
            )
        )
    for part in given_parts:
        for label in range(3):
            items += [Item(f"single/{part}/{label}/{n}.png", label, part) for n in range(12)]
    return items


def assert_nothing_straddles(items: Sequence[Item], splitting: Splitting) -> None:
    for members in sets_of([item for item in items if item.key in splitting.parts]):
        assert len({splitting.parts[item.key] for item in members}) == 1


@settings(max_examples=15)
@given(linked_items(), st.integers(0, 5))
def test_no_set_straddles_and_each_image_is_in_one_part_or_left_out(items: list[Item], seed: int) -> None:
    splitting = split_items(items, NAMES, seed=seed)
    assert splitting.parts.keys() | splitting.left_out.keys() == {item.key for item in items}
    assert not splitting.parts.keys() & splitting.left_out.keys()
    assert_nothing_straddles(items, splitting)
    for item in items:
        part = part_of(splitting, item.key)
        if item.given == "test":
            assert part == "test" or splitting.left_out[item.key] == "conflicting-labels"
        elif item.given == "validation" and part is not None:
            assert part in ("architecture", "choice")
    for split in PARTS:
        assert {item.label for item in items if item.key in splitting.keys(split)} == {0, 1, 2}


@settings(max_examples=15)
@given(linked_items(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_the_listing_changes_nothing(items: list[Item], seed: int, order: random.Random) -> None:
    mixed = list(items)
    order.shuffle(mixed)
    assert split_items(items, NAMES, seed=seed) == split_items(mixed, NAMES, seed=seed)


def test_another_seed_gives_another_split() -> None:
    items = three_classes()
    assert split_items(items, NAMES, seed=1) != split_items(items, NAMES, seed=2)


@settings(max_examples=15)
@given(st.lists(st.integers(10, 300), min_size=2, max_size=4), st.integers(0, 3))
def test_single_images_keep_every_share_of_every_class_within_one_image(sizes: list[int], seed: int) -> None:
    items = [item for label, size in enumerate(sizes) for item in single(size, label)]
    shares = Shares(0.15, 0.15, 0.2)
    splitting = split_items(items, [f"c{label}" for label in range(len(sizes))], shares=shares, seed=seed)
    labels = {item.key: item.label for item in items}
    count = Counter((labels[key], part) for key, part in splitting.parts.items())
    for label, size in enumerate(sizes):
        assert abs(count[label, "test"] - 0.2 * size) <= 1.5
        held = count[label, "architecture"] + count[label, "choice"]
        assert abs(held - 0.3 * size) <= 1.5
        if not splitting.shared:
            assert abs(count[label, "architecture"] - 0.15 * size) <= 2


def test_large_sets_are_evened_out_by_single_images() -> None:
    items = [Item(f"g{n // 10}/{n}.png", n // 10 % 2, group=f"g{n // 10}") for n in range(200)]
    items += [Item(f"s/{label}/{n}.png", label) for label in range(2) for n in range(200)]
    splitting = split_items(items, ("a", "b"))
    assert len(splitting.keys("test")) == pytest.approx(120, abs=3)
    assert_nothing_straddles(items, splitting)


def test_few_images_share_architecture_and_choice() -> None:
    splitting = split_items(three_classes(100), NAMES)
    assert splitting.shared
    assert splitting.keys("architecture") == splitting.keys("choice")
    assert len(splitting.keys("choice")) == 60


def test_many_images_have_four_parts() -> None:
    splitting = split_items(three_classes(600), NAMES)
    assert not splitting.shared
    assert [len(splitting.keys(split)) for split in PARTS] == [1080, 180, 180, 360]


def test_a_copy_of_a_given_test_image_is_left_out_of_train() -> None:
    items = single(20, 0, given="train") + single(20, 1, given="train")
    items += [Item("test/a.png", 0, "test", copy_set=7), Item("test/b.png", 1, "test")]
    items += [
        Item("train/a2.png", 0, "train", copy_set=7, group="g"),
        Item("train/a3.png", 0, "train", group="g"),
    ]
    splitting = split_items(items, ("a", "b"))
    assert splitting.parts["test/a.png"] == "test"
    assert splitting.left_out == {"train/a2.png": "linked-to-test", "train/a3.png": "linked-to-test"}
    assert splitting.keys("test") == ("test/a.png", "test/b.png")


def test_a_copy_that_is_left_out_still_holds_its_groups_together() -> None:
    items = three_classes()
    items += [Item("g/a.png", 0, group="g", exact_set=1, copy_set=1)]
    items += [Item("h/a.png", 0, group="h", exact_set=1, copy_set=1)]
    items += [Item(f"{name}/{n}.png", 0, group=name) for name in "gh" for n in range(3)]
    for seed in range(8):
        of_folds = fold_items(items, NAMES, 3, seed=seed, superfluous={"h/a.png"})
        for splitting in (split_items(items, NAMES, seed=seed, superfluous={"h/a.png"}), *of_folds):
            assert splitting.left_out == {"h/a.png": "exact-copy"}
            assert len({part for key, part in splitting.parts.items() if key[0] in "gh"}) == 1


def test_a_given_test_image_keeps_the_group_of_its_copy_out_of_train() -> None:
    items = single(20, 0, given="train") + single(20, 1, given="train")
    items += [Item("test/a.png", 0, "test", exact_set=7), Item("test/b.png", 1, "test")]
    items += [Item("train/a2.png", 0, "train", "g", exact_set=7), Item("train/a3.png", 0, "train", "g")]
    splitting = split_items(items, ("a", "b"), superfluous={"train/a2.png"})
    assert splitting.left_out == {"train/a2.png": "exact-copy", "train/a3.png": "linked-to-test"}


def test_given_validation_images_become_architecture_and_choice() -> None:
    items = [Item(f"{part}/{n}", n % 2, part) for part in ("train", "validation", "test") for n in range(400)]  # type: ignore[arg-type]
    splitting = split_items(items, ("a", "b"))
    assert all(key.startswith("validation/") for key in splitting.keys("architecture"))
    assert len(splitting.keys("architecture")) == len(splitting.keys("choice")) == 200
    assert len(splitting.keys("train")) == len(splitting.keys("test")) == 400


def test_only_given_training_images_are_cut_like_images_without_parts() -> None:
    items = three_classes()
    given_train = [Item(item.key, item.label, "train") for item in items]
    assert split_items(items, NAMES).parts == split_items(given_train, NAMES).parts


def test_exact_copies_of_two_classes_are_left_out_and_near_ones_kept_together() -> None:
    items = three_classes()
    items += [Item("x/cat.png", 0, exact_set=1, copy_set=1), Item("x/dog.png", 1, exact_set=1, copy_set=1)]
    items += [Item("y/cat.png", 0, copy_set=2), Item("y/dog.png", 1, copy_set=2)]
    splitting = split_items(items, NAMES)
    assert splitting.left_out == dict.fromkeys(("x/cat.png", "x/dog.png"), "conflicting-labels")
    assert splitting.parts["y/cat.png"] == splitting.parts["y/dog.png"]
    assert [(conflict.kind, conflict.keys) for conflict in find_conflicts(items)] == [
        ("exact", ("x/cat.png", "x/dog.png")),
        ("near", ("y/cat.png", "y/dog.png")),
    ]
    assert not split_items(items, NAMES, keep_conflicts=True).left_out


def test_a_class_whose_images_all_have_copies_in_another_is_named() -> None:
    items = [*single(20, 0), Item("1/a.png", 1, exact_set=1), Item("0/a.png", 0, exact_set=1)]
    for split in (split_items, lambda items, names: fold_items(items, names, 2)):
        with pytest.raises(UsageError, match="No image of class dog is left") as caught:
            split(items, NAMES[:2])
        assert "data check --html" in caught.value.hint


@settings(max_examples=15)
@given(linked_items().filter(lambda items: all(i.given in (None, "train") for i in items)), st.integers(2, 4))
def test_folds_test_every_image_once_and_no_set_straddles(items: list[Item], count: int) -> None:
    splits = fold_items(items, NAMES, count)
    tested = Counter(key for splitting in splits for key in splitting.keys("test"))
    assert set(tested.values()) == {1}
    assert tested.keys() | splits[0].left_out.keys() == {item.key for item in items}
    for splitting in splits:
        assert_nothing_straddles(items, splitting)
        assert splitting.left_out == splits[0].left_out
        assert splitting.keys("train") and splitting.keys("choice")


def test_folds_are_equally_large() -> None:
    splits = fold_items(three_classes(50), NAMES, 5)
    assert [len(splitting.keys("test")) for splitting in splits] == [30] * 5


@pytest.mark.parametrize(
    ("items", "names", "message"),
    [
        (single(20, 0), ("cat",), "one class only (cat)"),
        (single(20, 0), ("cat", "dog"), "No image belongs to class dog"),
        (single(2, 0) + single(1, 1), ("a", "b", "c", "d"), "4 classes and 3 images"),
        (single(20, 0) + single(2, 1), ("cat", "dog"), "at least 3 independent images or groups"),
        (
            single(20, 0) + single(20, 1, group="burst"),
            ("cat", "dog"),
            "dog has 1",
        ),
        (
            single(20, 0, given="train") + single(20, 1, given="train") + [Item("t", 0, "test")],
            ("cat", "dog"),
            "test has no usable image of class dog",
        ),
        (
            single(20, 0, given="train") + [Item(f"t{n}", n % 2, "test") for n in range(9)],
            ("cat", "dog"),
            "train has no usable image of class dog",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(items: list[Item], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as error:
        split_items(items, names)
    assert message in error.value.message
    assert error.value.hint


def test_more_folds_than_sets_of_the_smallest_class_are_refused() -> None:
    with pytest.raises(UsageError, match=r"at least 5 independent images.*dog has 4"):
        fold_items(single(20, 0) + single(4, 1), ("cat", "dog"), 5)


def test_folds_beside_a_given_test_part_are_refused() -> None:
    items = single(20, 0) + single(20, 1) + [Item("t", 0, "test")]
    with pytest.raises(UsageError, match="test or validation part of their own"):
        fold_items(items, ("cat", "dog"), 3)


@pytest.mark.parametrize("shares", [(0.0, 0.1, 0.2), (0.4, 0.4, 0.3), (0.1, 0.1, -0.2)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError):
        Shares(*shares)


def test_each_class_of_four_images_stands_in_each_of_three_parts() -> None:
    items = [item for label in range(10) for item in single(4, label)]
    splitting = split_items(items, [str(label) for label in range(10)])
    labels: dict[str, set[int]] = defaultdict(set)
    for item in items:
        labels[splitting.parts[item.key]].add(item.label)
    assert dict(labels) == {part: set(range(10)) for part in ("train", "choice", "test")}
