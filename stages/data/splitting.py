"""Which image serves what: training the weights, training the architecture, choices, or the final test.

Images that share a group or a copy set, directly or through others, form one *set*, and a set never
straddles parts. Every choice is made on ``architecture`` and ``choice``; ``test`` is read by verify alone.

How sets are assigned (:mod:`stages.data.assignment`) depends neither on the order in which files were listed
nor on the machine. Adding images may move others, as every assignment depends on those before it. (A split
by a hash of the name alone would move none, but misses the shares by many images in small classes.) A split
that is to stay is written down (:mod:`stages.data.split_file`) and given back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from stages.data.assignment import TooFewSets, assign
from stages.data.dataset import Part
from stages.data.sets import linked_sets

Given = Literal["train", "validation", "test"]
LeftOut = Literal["linked-to-test", "linked-to-validation", "conflicting-labels", "exact-copy"]
"""Why an image is in no part: it shares a set with a given test (validation) image, has exact copies of
another class, or is the exact copy of an image that is used."""

SHARED_BELOW = 300
"""Architecture and choice are the same images where they would hold fewer than this together."""

_SHOWN = 3


@dataclass(frozen=True)
class Item:
    """One image. ``key`` is its stable, unique name (the path inside the data folder).

    ``label`` indexes the classes; ``given`` is the part that folder or file names state. ``copy_set`` names
    exact and near copies of one picture, ``exact_set`` exact copies alone, ``group`` what the person said
    belongs together.
    """

    key: str
    label: int
    given: Given | None = None
    group: str | None = None
    copy_set: int | None = None
    exact_set: int | None = None


@dataclass(frozen=True)
class Shares:
    """Which share of all images each part gets; training gets the rest."""

    architecture: float = 0.1
    choice: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        """Raises UsageError where a share is not positive or nothing is left to train with."""
        named = {"architecture": self.architecture, "choice": self.choice, "test": self.test}
        for name, share in named.items():
            if not 0 < share < 1:
                raise UsageError(f"The share of {name} is {share}; it must be between 0 and 1.")
        if sum(named.values()) >= 1:
            raise UsageError(
                f"The shares of architecture, choice and test are {sum(named.values()):g} together.",
                hint="Make them smaller: training gets the rest, which must be more than 0.",
            )

    def of(self, split: Part) -> float:
        """The share of one part."""
        if split == "train":
            return 1 - self.architecture - self.choice - self.test
        return {"architecture": self.architecture, "choice": self.choice, "test": self.test}[split]


@dataclass(frozen=True)
class Conflict:
    """Images that are copies of one picture and have different labels."""

    kind: Literal["exact", "near"]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    """One for each key."""


@dataclass(frozen=True)
class Splitting:
    """Which part each image is in: every key stands in ``parts`` or in ``left_out``, none in both.

    Where ``shared``, ``architecture`` and ``choice`` are the same images: ``parts`` says ``choice`` for all
    of them, and :meth:`keys` gives them for both names. ``straddling``: how many sets stand in several parts,
    as only a split that a person gave can have it.
    """

    parts: Mapping[str, Part]
    left_out: Mapping[str, LeftOut]
    shared: bool
    conflicts: tuple[Conflict, ...] = ()
    straddling: int = 0

    def keys(self, split: Part) -> tuple[str, ...]:
        """The images of a part, sorted."""
        wanted = "choice" if self.shared and split == "architecture" else split
        return tuple(sorted(key for key, part in self.parts.items() if part == wanted))


def find_conflicts(items: Sequence[Item]) -> tuple[Conflict, ...]:
    """Copies with different labels: exact ones first, near ones (of which not all are exact) after them."""
    found: list[Conflict] = []
    exact = _several_labels(items, "exact_set")
    near = _several_labels(items, "copy_set")
    explained = {tuple(item.key for item in members) for members in exact}
    found += [_conflict("exact", members) for members in exact]
    found += [
        _conflict("near", members) for members in near if tuple(i.key for i in members) not in explained
    ]
    return tuple(found)


def _several_labels(items: Sequence[Item], field: str) -> list[list[Item]]:
    sets: dict[int, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.key):
        number = getattr(item, field)
        if number is not None:
            sets[number].append(item)
    mixed = [members for members in sets.values() if len({item.label for item in members}) > 1]
    return sorted(mixed, key=lambda members: members[0].key)


def _conflict(kind: Literal["exact", "near"], members: Sequence[Item]) -> Conflict:
    return Conflict(kind, tuple(item.key for item in members), tuple(item.label for item in members))


def split_items(
    items: Sequence[Item],
    class_names: Sequence[str],
    *,
    shares: Shares | None = None,
    seed: int = 0,
    keep_conflicts: bool = False,
    superfluous: Collection[str] = (),
) -> Splitting:
    """The four parts. ``class_names``: every class that there should be, by label.

    A given test image stays in test, a given validation image in architecture or choice; where both are
    given, the others train. An image that shares a set with a given test or validation image goes with it if
    it has no given part of its own, and is left out if it is given for something else. Exact copies with
    different labels are left out of all parts unless ``keep_conflicts``. Shares are those of the images that
    are cut: of all images where nothing is given, of the images given for training where a test part is.
    ``superfluous``: keys of exact copies that are to be in no part. What they link, as two groups that hold
    the same picture, stays together all the same.

    Raises UsageError where there is no such split, or none that could be learned from.
    """
    shares = shares or Shares()
    used = _without(items, superfluous)
    check_classes(used, class_names)
    conflicts = find_conflicts(used)
    left_out: dict[str, LeftOut] = dict.fromkeys(superfluous, "exact-copy")
    if not keep_conflicts:
        exact = [conflict for conflict in conflicts if conflict.kind == "exact"]
        left_out.update({key: "conflicting-labels" for conflict in exact for key in conflict.keys})
    _check_left(used, left_out, class_names)
    sets = _sets_without(items, left_out)
    parts: dict[str, Part] = {}
    free: list[tuple[Item, ...]] = []
    validation: list[tuple[Item, ...]] = []
    for members in sets:
        given = _strongest(members)
        if given is None:
            free.append(members)
            continue
        staying = tuple(item for item in members if item.given in (given, None))
        gone: LeftOut = "linked-to-test" if given == "test" else "linked-to-validation"
        left_out.update({item.key: gone for item in members if item.given not in (given, None)})
        if given == "test":
            parts.update({item.key: "test" for item in staying})
        else:
            validation.append(staying)
    _check_given(used, parts, validation, free, class_names)
    wanted: dict[str, float] = {"train": 1.0}
    if not validation:
        wanted["validation"] = shares.architecture + shares.choice
    if not parts:
        wanted["test"] = shares.test
    wanted["train"] -= sum(share for name, share in wanted.items() if name != "train")
    cut = _assigned(free, wanted, class_names, seed, shares)
    parts.update({item.key: "train" for members in cut["train"] for item in members})
    parts.update({item.key: "test" for members in cut.get("test", ()) for item in members})
    validation += cut.get("validation", [])
    shared = sum(len(members) for members in validation) < SHARED_BELOW
    if shared:
        parts.update({item.key: "choice" for members in validation for item in members})
    else:
        two = {"architecture": shares.architecture, "choice": shares.choice}
        halves = _assigned(validation, two, class_names, seed, shares)
        parts.update({item.key: "architecture" for members in halves["architecture"] for item in members})
        parts.update({item.key: "choice" for members in halves["choice"] for item in members})
    return Splitting(parts, left_out, shared, conflicts)


def fold_items(
    items: Sequence[Item],
    class_names: Sequence[str],
    folds: int,
    *,
    shares: Shares | None = None,
    seed: int = 0,
    keep_conflicts: bool = False,
    superfluous: Collection[str] = (),
) -> tuple[Splitting, ...]:
    """Splits for cross-validation: each image that is in any part is in the test part of exactly one of them.

    Inside each, architecture and choice are cut from what is not tested, as :func:`split_items` does. Raises
    UsageError where a test or validation part is given, or a class has fewer sets than there are folds.
    """
    if folds < 2:
        raise UsageError(
            f"{folds} folds were asked for.", hint="Ask for 2 or more, or leave `data.folds` unset."
        )
    if any(item.given in ("test", "validation") for item in items):
        raise UsageError(
            "The images have a test or validation part of their own, and cross-validation was asked for.",
            hint="Leave `data.folds` unset, or take the parts out of the folder or the file.",
        )
    used = _without(items, superfluous)
    check_classes(used, class_names)
    conflicts = [] if keep_conflicts else [c for c in find_conflicts(used) if c.kind == "exact"]
    without = {key for conflict in conflicts for key in conflict.keys}
    sets = _sets_without(items, {*superfluous, *without})
    names = [str(fold) for fold in range(folds)]
    try:
        outer = assign(sets, dict.fromkeys(names, 1.0), dict.fromkeys(names, 1), seed)
    except TooFewSets as error:
        raise _too_few(error, class_names, f"one for each of the {folds} folds") from None
    splits = []
    for name in names:
        tested = {item.key for members in outer[name] for item in members}
        of_this = [replace(item, given="test" if item.key in tested else None) for item in items]
        splits.append(
            split_items(
                of_this,
                class_names,
                shares=shares,
                seed=seed,
                keep_conflicts=keep_conflicts,
                superfluous=superfluous,
            )
        )
    return tuple(splits)


def sets_of(items: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Images that stay together: joined by group, copy set or exact copy, also through others."""
    ordered = sorted(items, key=lambda item: item.key)
    first: dict[tuple[str, object], int] = {}
    pairs = []
    for number, item in enumerate(ordered):
        for kind, name in (("group", item.group), ("near", item.copy_set), ("exact", item.exact_set)):
            if name is not None:
                pairs.append((first.setdefault((kind, name), number), number))
    return [tuple(ordered[number] for number in numbers) for numbers in linked_sets(len(ordered), pairs)]


def _without(items: Sequence[Item], keys: Collection[str]) -> Sequence[Item]:
    return [item for item in items if item.key not in keys] if keys else items


def _sets_without(items: Sequence[Item], keys: Collection[str]) -> list[tuple[Item, ...]]:
    """The sets of all items, those of ``keys`` taken out after they have linked others."""
    sets = (tuple(item for item in members if item.key not in keys) for members in sets_of(items))
    return [members for members in sets if members]


def check_classes(items: Sequence[Item], class_names: Sequence[str]) -> None:
    """Raises UsageError where nothing could be learned, ValueError where keys or labels are no such."""
    if len({item.key for item in items}) != len(items):
        raise ValueError("two images have one key")
    if not all(0 <= item.label < len(class_names) for item in items):
        raise ValueError("a label has no class name")
    if len(class_names) < 2:
        named = f"one class only ({plain_line(class_names[0], limit=60)})" if class_names else "no classes"
        raise UsageError(
            f"The images have {named}; a network needs at least two to tell apart.",
            hint="Give each class a folder of its own, or a label of its own in the file.",
        )
    if len(class_names) > len(items):
        raise UsageError(
            f"There are {len(class_names)} classes and {len(items)} images.",
            hint="Check that each folder is a class and not a single object, or add images.",
        )
    empty = set(range(len(class_names))) - {item.label for item in items}
    if empty:
        raise UsageError(
            f"No image belongs to {_named(empty, class_names)}.",
            hint="Add images, or delete the empty folder or the class.",
        )


def _check_left(items: Sequence[Item], left_out: Collection[str], class_names: Sequence[str]) -> None:
    gone = {item.label for item in items} - {item.label for item in items if item.key not in left_out}
    if gone:
        raise UsageError(
            f"No image of {_named(gone, class_names)} is left: all have exact copies in another class.",
            hint="Keep each picture in the one class that it belongs to: 'nasflow data check --html FILE' "
            "shows them.",
        )


def _strongest(members: Sequence[Item]) -> Literal["validation", "test"] | None:
    given = {item.given for item in members}
    return "test" if "test" in given else "validation" if "validation" in given else None


def _check_given(
    items: Sequence[Item],
    test: Mapping[str, Part],
    validation: Sequence[Sequence[Item]],
    free: Sequence[Sequence[Item]],
    class_names: Sequence[str],
) -> None:
    everything = set(range(len(class_names)))
    held = {item.label for members in validation for item in members}
    learned = {item.label for members in free for item in members}
    tested = {item.label for item in items if item.key in test}
    for part, labels in (("test", tested), ("validation", held), ("train", learned)):
        if (labels or part == "train") and labels != everything:
            raise UsageError(
                f"The given parts have different classes: {part} has no usable image of "
                f"{_named(everything - labels, class_names)}.",
                hint="Give every part the same classes. Copies of test images in train do not count.",
            )


def _assigned(
    sets: Sequence[tuple[Item, ...]],
    wanted: Mapping[str, float],
    class_names: Sequence[str],
    seed: int,
    shares: Shares,
) -> Mapping[str, list[tuple[Item, ...]]]:
    """Sets to named parts. Validation needs two sets of each class where it will be cut in two."""
    images = sum(len(members) for members in sets)
    needs = dict.fromkeys(wanted, 1)
    if "validation" in wanted and round(wanted["validation"] * images) >= SHARED_BELOW:
        needs["validation"] = 2
    try:
        return assign(sets, wanted, needs, seed)
    except TooFewSets as error:
        names = ["architecture", "choice"] if needs.get("validation") == 2 else ["architecture with choice"]
        parts = [name for part in wanted for name in (names if part == "validation" else [part])]
        raise _too_few(error, class_names, f"one for each part ({', '.join(parts)})") from None


def _too_few(error: TooFewSets, class_names: Sequence[str], why: str) -> UsageError:
    counted = ", ".join(
        f"{plain_line(class_names[label], limit=60)} has {count}"
        for label, count in sorted(error.counts.items())[:_SHOWN]
    )
    more = (
        f" and {len(error.counts) - _SHOWN} more classes have too few" if len(error.counts) > _SHOWN else ""
    )
    return UsageError(
        f"Each class needs at least {error.needed} independent images or groups, {why}: {counted}{more}. "
        "Copies of one picture and images of one group count once.",
        hint="Add images to these classes, join them with others, or leave them out.",
    )


def _named(labels: Iterable[int], class_names: Sequence[str]) -> str:
    """``class a, b, c and 4 more``."""
    names = [plain_line(class_names[label], limit=60) for label in sorted(labels)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:_SHOWN])}{more}"
