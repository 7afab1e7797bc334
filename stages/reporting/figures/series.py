"""How a network's role looks: a colour class, and a shape for those who do not see the colour."""

from __future__ import annotations

import math

from markupsafe import Markup

from stages.documents import Role
from stages.reporting.figures.svg import element, polygon, tooltip

CLASSES: dict[Role, str] = {
    "found": "found",
    "random": "random",
    "front": "front",
    "full": "full",
    "baseline": "baseline",
    "baseline_published": "published",
}


def marker(role: Role, x: float, y: float, *, title: str = "", size: float = 6) -> Markup:
    """Found: star; for other latencies: diamond. Random: triangle. MobileNetV2: disc or hollow square.

    The full network: square.
    """
    style = f"marker {CLASSES[role]}"
    if role == "found":
        return polygon(_star(x, y, 1.6 * size), title=title, class_=style)
    if role == "random":
        corners = [(x, y - 1.15 * size), (x + size, y + 0.75 * size), (x - size, y + 0.75 * size)]
        return polygon(corners, title=title, class_=style)
    if role == "front":
        corners = [(x, y - 1.1 * size), (x + 1.1 * size, y), (x, y + 1.1 * size), (x - 1.1 * size, y)]
        return polygon(corners, title=title, class_=style)
    if role == "baseline":
        return element("circle", tooltip(title), cx=x, cy=y, r=0.85 * size, class_=style)
    side = 1.5 * size
    return element(
        "rect", tooltip(title), x=x - side / 2, y=y - side / 2, width=side, height=side, class_=style
    )


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    return [
        (
            x + math.sin(math.pi * i / 5) * radius * (0.45 if i % 2 else 1),
            y - math.cos(math.pi * i / 5) * radius * (0.45 if i % 2 else 1),
        )
        for i in range(10)
    ]
