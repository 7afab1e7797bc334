"""SVG elements as escaped text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from nasflow.base.text import plain_line

Value = str | float | int


def element(tag: str, *children: str | Markup, **attributes: Value) -> Markup:
    """One element; children that are plain strings are escaped.

    ``stroke_width=1`` becomes ``stroke-width="1"``, ``class_`` becomes ``class``.
    """
    spelt = Markup("").join(
        Markup(' {}="{}"').format(Markup(_attribute(name)), _number(value))
        for name, value in attributes.items()
    )
    name = Markup(tag)
    return Markup("<{}{}>{}</{}>").format(name, spelt, Markup("").join(children), name)


def tooltip(content: str) -> Markup:
    """What a browser shows over the element that this is put into, and a screen reader says."""
    return element("title", plain_line(content)) if content else Markup("")


def text(x: float, y: float, content: str, **attributes: Value) -> Markup:
    """A line of text with its baseline at (x, y)."""
    return element("text", plain_line(content), x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Value) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def rectangle(x: float, y: float, width: float, height: float, **attributes: Value) -> Markup:
    """A rectangle from its upper left corner."""
    return element("rect", x=x, y=y, width=max(0.0, width), height=max(0.0, height), **attributes)


def polyline(points: Sequence[tuple[float, float]], **attributes: Value) -> Markup:
    """A line through points, not filled."""
    return element("polyline", points=_points(points), fill="none", **attributes)


def polygon(points: Sequence[tuple[float, float]], *, title: str = "", **attributes: Value) -> Markup:
    """A closed shape."""
    return element("polygon", tooltip(title), points=_points(points), **attributes)


def group(children: Iterable[str | Markup], **attributes: Value) -> Markup:
    """Several elements as one."""
    return element("g", *children, **attributes)


def figure(
    width: float, height: float, label: str, children: Iterable[Markup], *, links: bool = False
) -> Markup:
    """A whole drawing. ``label`` is what a screen reader says in its place.

    With ``links`` in it, it is a group: what stands in an image cannot be reached with a keyboard.
    """
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        width=width,
        height=height,
        role="group" if links else "img",
        aria_label=plain_line(label),
    )


def text_width(content: str, size: float = 12) -> float:
    """About how wide a line of text is in a proportional font."""
    narrow = sum(character in " .,:;|'ijl1-()" for character in content)
    return size * (0.58 * (len(content) - narrow) + 0.36 * narrow)


def _attribute(name: str) -> str:
    return str(escape(name.rstrip("_").replace("_", "-")))


def _number(value: Value) -> str:
    if isinstance(value, float):
        spelt = f"{value:.2f}".rstrip("0").rstrip(".")
        return "0" if spelt == "-0" else spelt
    return str(value)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_number(float(x))},{_number(float(y))}" for x, y in points)
