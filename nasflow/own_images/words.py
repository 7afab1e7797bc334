"""``nasflow data check``'s findings in words, on one screen."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from nasflow.base.text import human_bytes
from nasflow.own_images.findings import FEW_TEST_IMAGES, UNEQUAL, Findings
from stages.data.catalogue import allowed_broken, described
from stages.data.inventory import InspectedImage
from stages.data.listed import is_to_convert
from stages.data.names import shown, shown_list
from stages.data.reading import LONGEST_RATIO
from stages.verification.power import what_can_be_shown

MOST_CLASSES = 16
_LABEL = 11
_SHOWN = 3


def screen_text(findings: Findings, width: int = 100) -> str:
    """All that was found, in lines of about ``width`` characters."""
    listing = findings.inventory.listing
    count, classes = len(listing.images), len(findings.class_names)
    lines = [
        f"{count:,} images in {classes} classes: {shown(findings.where)} ({listing.layout})",
        "",
        *class_table(findings),
        "",
    ]
    for label, text in subjects(findings):
        first, *rest = textwrap.wrap(text, max(40, width - _LABEL), break_on_hyphens=False)
        lines += [f"{label:<{_LABEL}}{first}", *(" " * _LABEL + line for line in rest)]
    if findings.problem is not None:
        lines += ["", f"error: {findings.problem.message}"]
        if findings.problem.hint:
            lines.append(f"hint: {findings.problem.hint}")
    return "\n".join(lines)


def class_table(findings: Findings) -> list[str]:
    """A row for each class, the last for all; the middle ones of many are left out."""
    counts = findings.parts_of_classes()
    columns = ["images"]
    if findings.splitting is not None:
        shared = findings.splitting.shared
        columns += ["train", *(["choice"] if shared else ["architecture", "choice"]), "test"]
    columns += [name for name in ("left_out", "broken") if any(of[name] for of in counts.values())]
    in_order = sorted(counts, key=lambda name: (-counts[name]["images"], name))
    omitted = len(in_order) - MOST_CLASSES
    if omitted > 0:
        half = MOST_CLASSES // 2
        in_order = [*in_order[:half], *in_order[-half:]]
    total: Counter[str] = sum(counts.values(), Counter())
    rows = [(shown(name)[:40], counts[name]) for name in in_order]
    width = max(5, *(len(name) for name, _ in rows))
    head = f"{'class':<{width}}" + "".join(f"  {_heading(findings, name):>12}" for name in columns)
    lines = [head, *(_row(name, of, columns, width) for name, of in rows), _row("all", total, columns, width)]
    if omitted > 0:
        lines.insert(1 + MOST_CLASSES // 2, f"({omitted} more classes)")
    return lines


def _heading(findings: Findings, column: str) -> str:
    if column == "choice" and findings.splitting is not None and findings.splitting.shared:
        return "arch.+choice"
    return column.replace("_", " ")


def _row(name: str, counts: Counter[str], columns: Sequence[str], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"  {counts[column]:>12,}" for column in columns)


def subjects(findings: Findings) -> Iterator[tuple[str, str]]:
    """(subject, sentence), in order."""
    listing = findings.inventory.listing
    yield from _files(findings)
    if listing.ignored:
        unused = set(listing.unused)
        others = [path for path in listing.ignored if not is_to_convert(path) and path not in unused]
        if others:
            yield "Ignored", f"{len(others):,} (no images): {shown_list(others, _SHOWN)}"
        if unused:
            first = shown_list(sorted(unused), _SHOWN)
            yield (
                "Not used",
                f"{_images(len(unused))} outside the class folders, or not in the table: {first}",
            )
    if foreign := listing.to_convert:
        yield (
            "To convert",
            f"{_images(len(foreign))} in a format that is not read: {shown_list(foreign, _SHOWN)}; "
            "convert to JPEG or PNG",
        )
    yield "Broken", _broken(findings)
    yield from _copies(findings)
    if groups := {image.group for image in listing.images if image.group is not None}:
        yield "Groups", f"{len(groups):,}; each stays in one part"
    if findings.splitting is not None:
        yield "Parts", _parts(findings)
        yield "Balance", balance_sentence(findings)
    if findings.decoded_per_second is not None:
        yield "Decoding", _decoding(findings)
    counts = findings.counts()
    if counts is not None and counts["test"]:
        yield "Test", _test(counts["test"], findings)


def _files(findings: Findings) -> Iterator[tuple[str, str]]:
    readable = [(i, min(i.width, i.height)) for i in findings.readable if i.width and i.height]
    if not readable:
        return
    sides = sorted(side for _, side in readable)
    sizes = [image.size_bytes for image, _ in readable]
    yield (
        "Sizes",
        f"shorter side {sides[0]:,} to {sides[-1]:,} pixels, median {median(sides):,.0f}; files of "
        f"{human_bytes(min(sizes))} to {human_bytes(max(sizes))}, median {human_bytes(median(sizes))}",
    )
    formats = Counter(image.format or "?" for image, _ in readable)
    yield "Formats", ", ".join(f"{name} {count:,}" for name, count in formats.most_common())
    if small := findings.small:
        yield (
            "Small",
            f"{_images(len(small))} with a shorter side below {findings.smallest_usual} pixels, enlarged to "
            f"{findings.resolution}: {_sized(small)}",
        )
    if long := findings.long:
        yield (
            "Long",
            f"{_images(len(long))} more than {LONGEST_RATIO:g} times as long as wide, of which the middle is "
            f"shown: {_sized(long)}",
        )


def _sized(images: Sequence[InspectedImage]) -> str:
    named = [f"{shown(image.path)} ({image.width:,} x {image.height:,})" for image in images[:_SHOWN]]
    return ", ".join(named) + (f" and {len(images) - _SHOWN:,} more" if len(images) > _SHOWN else "")


def _broken(findings: Findings) -> str:
    broken, count = findings.inventory.broken, len(findings.inventory.images)
    if not broken:
        return "none: every image can be read"
    allowed = allowed_broken(findings.config.max_broken, count)
    named = "; ".join(f"{shown(image.path)} ({described(image)})" for image in broken[:_SHOWN])
    return f"{len(broken):,}, left out ({allowed:,} allowed by data.max_broken): {named}" + (
        f"; and {len(broken) - _SHOWN:,} more (--json lists all)" if len(broken) > _SHOWN else ""
    )


def _copies(findings: Findings) -> Iterator[tuple[str, str]]:
    if findings.config.copies == "ignore":
        yield "Copies", "not looked for (data.copies: ignore)"
        return
    extra = sum(len(members) - 1 for members in findings.exact)
    in_near = {number for pair in findings.pairs for number in pair[:2]}
    text = f"{_images(extra)} {'is an exact copy' if extra == 1 else 'are exact copies'} of another"
    if findings.searched_near:
        text += f"; {len(in_near):,} are near copies of each other (pairs: {len(findings.pairs):,})"
    else:
        text += "; near copies were not searched, there are too many images"
    if extra or in_near:
        text += {
            "leave_out": ". One of each exact set is used; near copies stay in one part",
            "keep_together": ". All are used; those of one picture stay in one part",
        }[findings.config.copies]
        sets = [*findings.exact, *((first, second) for first, second, _ in findings.pairs)]
        text += f": {_named_sets(findings, sets)}"
    yield "Copies", text
    number = {image.path: index for index, image in enumerate(findings.inventory.images)}
    for kind, consequence in (("exact", "all left out"), ("near", "to be looked at")):
        found = [conflict for conflict in findings.conflicts if conflict.kind == kind]
        if not found:
            continue
        classes = Counter(
            " and ".join(sorted({shown(findings.class_names[label]) for label in conflict.labels}))
            for conflict in found
        )
        named = "; ".join(f"{names} {count}" for names, count in classes.most_common(_SHOWN))
        yield (
            "Conflicts",
            f"{len(found):,} picture{'s' if len(found) > 1 else ''} with {kind} copies in different classes "
            f"({named}), {consequence}: "
            + _named_sets(findings, [[number[key] for key in conflict.keys] for conflict in found]),
        )


def _named_sets(findings: Findings, sets: Sequence[Sequence[int]]) -> str:
    """Some sets of copies by the names of their files: without them nobody could act."""
    images = findings.inventory.images
    named = [" = ".join(shown(images[number].path) for number in members[:_SHOWN]) for members in sets]
    more = f"; and {len(named) - _SHOWN:,} more" if len(named) > _SHOWN else ""
    return "; ".join(named[:_SHOWN]) + more


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _parts(findings: Findings) -> str:
    config, splitting = findings.config, findings.splitting
    assert splitting is not None
    by = f"by data.split_seed {config.split_seed}"
    if config.split_file is not None:
        by = f"from {shown(config.split_file)}"
    elif config.folds is not None:
        by = f"fold {config.fold + 1} of {config.folds}, {by}"
    given = sorted({image.part for image in findings.inventory.listing.images if image.part is not None})
    text = f"{by}{'; given: ' + ', '.join(given) if given else ''}"
    if splitting.shared:
        text += "; architecture and choice are the same images, because they would be fewer than 300"
    left_out = Counter(splitting.left_out.values())
    if left_out:
        text += "; left out: " + ", ".join(
            f"{count:,} {reason.replace('-', ' ')}" for reason, count in sorted(left_out.items())
        )
    return text


def imbalance(counts: Sequence[int]) -> float:
    """How many times as many images the largest class has as the smallest; 1 where there is none."""
    present = [count for count in counts if count]
    return max(present) / min(present) if present else 1.0


def balance_sentence(findings: Findings) -> str:
    """How unequal the classes are, and what to set."""
    counts = [of["train"] for of in findings.parts_of_classes().values()]
    ratio, balance = imbalance(counts), findings.config.balance
    if min(counts) == max(counts):
        return f"{counts[0]:,} training images a class"
    text = f"{min(counts):,} to {max(counts):,} training images a class ({ratio:.1f} to 1)"
    if ratio <= UNEQUAL:
        return f"{text}: data.balance {balance} is fine" if balance == "none" else f"{text}, {balance}"
    if balance == "none":
        return f"{text}: set data.balance: weights, so that rare classes count as much"
    return f"{text}; data.balance is {balance}"


def _decoding(findings: Findings) -> str:
    assert findings.decoded_per_second is not None
    gigabytes, limit = findings.decoded_bytes / 1e9, findings.config.cache_gigabytes
    kept = f"decoded once into a cache of {max(gigabytes, 0.01):.2f} GB"
    each_time = f"decoded each time, as all would take {gigabytes:.1f} GB"
    if gigabytes > limit:
        kept = f"{each_time} (data.cache_gigabytes is {limit:g})"
    elif findings.free_bytes is not None:
        kept = f"{each_time}, and the cache's disk has {human_bytes(findings.free_bytes)} free"
    return (
        f"{findings.decoded_per_second:,.0f} images/s on one core, for networks of {findings.resolution} "
        f"pixels; {kept}"
    )


def _test(images: int, findings: Findings) -> str:
    text, config = what_can_be_shown(images).sentence().rstrip("."), findings.config
    if images >= FEW_TEST_IMAGES or config.folds is not None or config.split_file is not None:
        return text
    if any(image.part in ("validation", "test") for image in findings.inventory.listing.images):
        return f"{text}. Without parts of their own, data.folds: 5 would test on every image in turn"
    return f"{text}. data.folds: 5 tests on every image in turn"
