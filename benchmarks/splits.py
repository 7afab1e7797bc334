"""Do copies of one picture ever stand in two parts of a split? Are distinct pictures taken for copies?

Pictures: nine folders of Debian's openclipart-png (drawings) and tuxpaint-stamps-default (mostly
photographs). Copies are planted: recompressed (JPEG, quality 40 to 80), resized to 50 to 80 %, mirrored,
cropped by 5 % of a random side or of all, and each two of these together. Originals and copies are then
split like any folder; a pair *straddles* where its two images are in different parts. A *false alarm* is a
distinct picture that is taken for a copy of another: all but one of each set of true copies
are taken out beforehand (``data/reviewed_copies.json``: pairs that were looked at, one drawing each; another
colour, background or frame makes no other drawing, another face or letter does).
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks._picture_copies import KINDS, copy_of, read_picture
from benchmarks._pictures import picture_files
from benchmarks._report import Outcome, at_least, at_most, main, say
from stages.data.copies import Copies, find_copies
from stages.data.descriptors import ImageDescriptor, describe
from stages.data.sets import linked_sets
from stages.data.splitting import Item, split_items

REVIEWED = Path(__file__).parent / "data" / "reviewed_copies.json"
SEED = 20_261
SPLIT_SEEDS = 5


def run(full: bool) -> Outcome:
    """Plant copies of every picture (``--quick``: of each twelfth) and split; look for copies among all."""
    names: list[str] = []
    hashes: list[str] = []
    originals: list[ImageDescriptor] = []
    planted: list[tuple[int, tuple[str, ...], ImageDescriptor]] = []
    times_ms: list[float] = []
    for number, (name, path) in enumerate(picture_files()):
        picture = read_picture(name, path)
        if picture is None:
            say(f"{name} is too large")
            continue
        started = time.thread_time()
        described = describe(picture.image)
        if max(picture.image.size) <= 512:
            times_ms.append(1000 * (time.thread_time() - started))
        names.append(name)
        hashes.append(picture.sha256)
        originals.append(described)
        # Each picture draws its own numbers, so that the same copies are made at both depths.
        chance = random.Random(f"{SEED} {name}")
        if number % (1 if full else 12) == 0 and not described.is_blank:
            kinds = chance.sample(KINDS, 4) if full else KINDS
            planted += [(len(names) - 1, kind, describe(copy_of(picture, kind, chance))) for kind in kinds]
        if number % 200 == 199:
            say(f"{number + 1} pictures read")
    say(f"{len(planted)} copies planted; looking for copies")
    distinct = distinct_pictures(names, hashes, originals)
    alarms = find_copies([hashes[i] for i in distinct], [originals[i] for i in distinct])
    alarmed = sorted({image for pair in alarms.pairs for image in (pair.first, pair.second)})
    for pair in alarms.pairs:
        say(f"alarm {names[distinct[pair.first]]} {names[distinct[pair.second]]} {pair.distance}")
    # Copies are looked for among the distinct pictures and what was planted of them.
    place = {number: index for index, number in enumerate(distinct)}
    kept = [copy for copy in planted if copy[0] in place]
    started = time.perf_counter()
    copies = find_copies(
        [hashes[i] for i in distinct] + [f"planted {number}" for number in range(len(kept))],
        [originals[i] for i in distinct] + [copy for _, _, copy in kept],
    )
    search_s = time.perf_counter() - started
    pairs = [(place[number], len(distinct) + index) for index, (number, _, _) in enumerate(kept)]
    labels = class_indices([names[i] for i in distinct] + [names[number] for number, _, _ in kept])
    straddling = max(straddling_pairs(copies, labels, pairs, seed) for seed in range(SPLIT_SEEDS))
    sets = copies.near_set_of()
    apart = [
        index for index, (one, other) in enumerate(pairs) if sets[one] is None or sets[one] != sets[other]
    ]
    for index in apart:
        say(f"not found: {names[kept[index][0]]} {'+'.join(kept[index][1])}")
    # Of a set of n pictures that are wrongly taken for one, n - 1 are taken for copies.
    taken = sum(len(members) - 1 for members in alarms.near)
    percent = 100 * taken / len(distinct)
    return Outcome(
        figures={
            "pictures": len(names),
            "blank_pictures": sum(descriptor.is_blank for descriptor in originals),
            "distinct_pictures": len(distinct),
            "planted_pairs": len(pairs),
            "planted_pairs_not_found": len(apart),
            "not_found_by_kind": dict(Counter("+".join(kept[index][1]) for index in apart)),
            "straddling_pairs": straddling,
            "false_alarms": taken,
            "pictures_in_false_sets": len(alarmed),
            "false_alarm_percent": percent,
            "describe_median_ms": median(times_ms),
            "describe_p99_ms": float(np.quantile(times_ms, 0.99)),
            "search_images": len(distinct) + len(kept),
            "search_s": search_s,
        },
        bars=[
            at_most("straddling_pairs", straddling, 0),
            at_least("distinct_pictures", len(distinct), 1000),
            at_most("false_alarm_percent", percent, 1.0),
            at_most("describe_p99_ms", float(np.quantile(times_ms, 0.99)), 10.0),
        ],
    )


def distinct_pictures(
    names: Sequence[str], hashes: Sequence[str], descriptors: Sequence[ImageDescriptor]
) -> list[int]:
    """Pictures that are not blank, one of each set of true copies.

    True copies: equal files, equal thumbnails (the same pixels in another file), and what was reviewed.
    """
    at = {name: number for number, name in enumerate(names)}
    pairs = []
    first: dict[bytes | str, int] = {}
    for number, (digest, descriptor) in enumerate(zip(hashes, descriptors, strict=True)):
        pairs.append((first.setdefault(digest, number), number))
        pairs.append((first.setdefault(hashlib.sha256(descriptor.to_bytes()).digest(), number), number))
    for members in json.loads(REVIEWED.read_text(encoding="utf-8")):
        numbers = [at[name] for name in members if name in at]
        pairs += [(numbers[0], number) for number in numbers[1:]]
    sets = linked_sets(len(names), pairs)
    return [members[0] for members in sets if not descriptors[members[0]].is_blank]


def class_indices(names: Sequence[str]) -> list[int]:
    """The class of each picture: the package and its top folder."""
    classes = sorted({class_of(name) for name in names})
    return [classes.index(class_of(name)) for name in names]


def class_of(name: str) -> str:
    """``openclipart/animals``; the photographs, in many small folders, are one class."""
    return "stamps" if name.startswith("stamps/") else "/".join(name.split("/")[:2])


def straddling_pairs(
    copies: Copies, labels: Sequence[int], pairs: Sequence[tuple[int, int]], seed: int
) -> int:
    """How many pairs a split puts into different parts."""
    sets = copies.near_set_of()
    items = [Item(f"{number:06}", label, copy_set=sets[number]) for number, label in enumerate(labels)]
    names = [str(label) for label in range(max(labels) + 1)]
    parts = split_items(items, names, seed=seed).parts
    return sum(parts[f"{one:06}"] != parts[f"{other:06}"] for one, other in pairs)


if __name__ == "__main__":
    sys.exit(main("splits", run))
