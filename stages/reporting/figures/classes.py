"""Accuracy class by class, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stages.documents import Role, VerifiedNetwork
from stages.reporting.classes import ClassAccuracy, ClassResult
from stages.reporting.figures.axes import Scale
from stages.reporting.figures.heat import heat_tone
from stages.reporting.figures.series import CLASSES, marker
from stages.reporting.figures.svg import element, figure, group, line, rectangle, text, text_width, tooltip

MOST_ROWS = 30
"""Classes that a figure has room for; of more, those on which the found network is least accurate."""
_ROW, _SMALL = 24.0, 11.5


def drawn_classes(classes: Sequence[ClassResult]) -> list[int]:
    """The indices of the classes that are drawn, in their order."""
    known = [index for index, one in enumerate(classes) if one.found is not None]
    if len(known) > MOST_ROWS:
        known.sort(key=lambda index: _found_percent(classes[index]))
    return sorted(known[:MOST_ROWS])


def class_accuracy_figure(classes: Sequence[ClassResult], reference: Role, *, width: float) -> Markup:
    """A row for each class: the found network above the reference, with Wilson's intervals."""
    rows = [classes[index] for index in drawn_classes(classes)]
    left = _room_for_names([_with_count(one) for one in rows], width)
    lowest = min((_lowest(one) for one in rows), default=0.0)
    x = Scale(10 * int(max(0.0, lowest) // 10), 100, left, width - 12)
    bottom = 26 + _ROW * len(rows)
    parts = []
    for tick in x.ticks(8 if width >= 600 else 4):
        parts += [
            line(x(tick), 20, x(tick), bottom, class_="grid"),
            text(x(tick), bottom + 17, f"{tick:g}", class_="tick middle"),
        ]
    parts.append(line(left, bottom, width - 12, bottom, class_="axis"))
    parts.append(text((left + width - 12) / 2, bottom + 34, "test accuracy, %", class_="title middle"))
    for row, one in enumerate(rows):
        y = 26 + _ROW * (row + 0.5)
        parts.append(text(left - 9, y + 4, shortened(_with_count(one), left - 12), class_="tick end"))
        drawn: tuple[tuple[Role, float, ClassAccuracy | None], ...] = (
            ("found", -4.5, one.found),
            (reference, 4.5, one.reference),
        )
        for role, off, accuracy in drawn:
            if accuracy is None:
                continue
            low, high = accuracy.accuracy_interval_95
            tip = f"{one.name}, {role}: {accuracy.accuracy_percent:.1f} % ({low:.1f} to {high:.1f})"
            style = f"errorbar {CLASSES[role]}"
            parts.append(line(x(low), y + off, x(high), y + off, class_=style))
            parts.append(marker(role, x(accuracy.accuracy_percent), y + off, title=tip, size=4))
    worst = min(rows, key=_found_percent, default=None)
    spoken = f"Test accuracy of {len(rows)} classes." + (
        f" The found network is least accurate on {worst.name}: {_found_percent(worst):.1f} %."
        if worst
        else ""
    )
    return figure(width, bottom + 42, spoken, parts)


def confusion_figure(network: VerifiedNetwork, classes: Sequence[ClassResult], *, width: float) -> Markup:
    """A row for each class, a column for each answer; a cell's tone is the share of the row's images."""
    drawn = drawn_classes(classes)
    names = [classes[index].name for index in drawn]
    counts = {(label, answer): images for label, answer, images in network.confusion or ()}
    left = _room_for_names(names, width)
    # A slanted name of the last columns reaches beyond them.
    beyond = 0.58 * min(88.0, max((text_width(name, _SMALL) for name in names[-2:]), default=0.0))
    step = (width - left - max(2.0, beyond - 4)) / max(1, len(drawn))
    row_height = min(step, 34.0)
    top = 14 + _slanted_height(names)
    parts = [text(left - 8, top - 8, "class", class_="tick end")]
    for column, name in enumerate(names):
        x, y = left + step * (column + 0.5) + 3, top - 6
        parts.append(
            text(x, y, shortened(name, 88), class_="tick start", transform=f"rotate(-55 {x:.2f} {y:.2f})")
        )
    for row, label in enumerate(drawn):
        y = top + row_height * row
        parts.append(
            text(left - 8, y + row_height / 2 + 4, shortened(names[row], left - 12), class_="tick end")
        )
        for column, answer in enumerate(drawn):
            images = counts.get((label, answer), 0)
            tip = f"{images:,} of {classes[label].images:,} {names[row]} answered {names[column]}"
            parts.append(
                _cell(
                    left + step * column,
                    y,
                    step,
                    row_height,
                    images,
                    classes[label].images,
                    tip,
                    label == answer,
                )
            )
    wrong = sum(images for (label, answer), images in counts.items() if label != answer)
    spoken = (
        f"Confusion of {network.name}: {wrong:,} of {sum(counts.values()):,} test images answered wrongly."
    )
    return figure(width, top + row_height * len(drawn) + 4, spoken, parts)


def _cell(
    x: float, y: float, width: float, height: float, images: int, total: int, tip: str, right: bool
) -> Markup:
    share = images / total if total else 0.0
    tone = "heat" if right else "wrong"
    # A few per cent of confusions must be seen beside a diagonal of nearly all.
    opacity, ink = heat_tone(share if right else share**0.5)
    parts = [
        rectangle(x + 0.5, y + 0.5, width - 1, height - 1, class_="heatground"),
        element(
            "rect",
            tooltip(tip),
            x=x + 0.5,
            y=y + 0.5,
            width=width - 1,
            height=height - 1,
            class_=tone,
            fill_opacity=opacity,
        ),
    ]
    said = f"{images}"
    size = 11.5 if text_width(said, 11.5) <= width - 3 else 9.5
    if images and text_width(said, size) <= width - 2 and height >= size + 2:
        style = f"heattext {ink} middle{' tiny' if size < 11 else ''}"
        parts.append(text(x + width / 2, y + height / 2 + 4, said, class_=style))
    return group(parts)


def shortened(name: str, room: float, size: float = _SMALL) -> str:
    """A name that fits into so many pixels, with an ellipsis where it is cut."""
    if text_width(name, size) <= room:
        return name
    while name and text_width(f"{name}…", size) > room:
        name = name[:-1]
    return f"{name.rstrip()}…"


def _room_for_names(names: Sequence[str], width: float) -> float:
    widest = max((text_width(name, _SMALL) for name in names), default=0.0)
    return min(widest + 14, 0.32 * width)


def _slanted_height(names: Sequence[str]) -> float:
    return 0.82 * min(88.0, max((text_width(name, _SMALL) for name in names), default=0.0)) + 8


def _with_count(one: ClassResult) -> str:
    return f"{one.name} ({one.images:,})"


def _found_percent(one: ClassResult) -> float:
    return one.found.accuracy_percent if one.found else 100.0


def _lowest(one: ClassResult) -> float:
    return min((a.accuracy_interval_95[0] for a in (one.found, one.reference) if a), default=100.0)
