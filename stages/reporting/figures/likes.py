"""What each device likes: shares of kernels or expansions, of its network and by its probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from stages.reporting.cross_text import Liked
from stages.reporting.figures.cross import name_lines
from stages.reporting.figures.heat import heat_tone
from stages.reporting.figures.svg import element, figure, text, text_width, tooltip
from stages.space.preferences import Shares

_BAR, _LINE = 17.0, 14.0


def kernels_figure(liked: Sequence[Liked], *, width: float) -> Markup:
    """Shares of the kernel sizes."""

    def style(kernel: int, _known: Sequence[int]) -> dict[str, str | float]:
        return {"class_": f"bar {'k3' if kernel <= 3 else 'k5' if kernel <= 5 else 'k7'}"}

    def ink(kernel: int, _known: Sequence[int]) -> str:
        return f"inblock {'k3' if kernel <= 3 else 'k5' if kernel <= 5 else 'k7'} middle"

    return _figure(
        liked,
        lambda shares: shares.kernels,
        lambda kernel: f"{kernel}×{kernel}",
        style,
        ink,
        "Kernels",
        width,
    )


def expansions_figure(liked: Sequence[Liked], *, width: float) -> Markup:
    """Shares of the expansions: the stronger the tone, the larger."""

    def tone(expansion: int, known: Sequence[int]) -> tuple[float, str]:
        place = known.index(expansion) / max(1, len(known) - 1)
        return heat_tone(0.2 + 0.7 * place)

    def style(expansion: int, known: Sequence[int]) -> dict[str, str | float]:
        return {"class_": "heat", "fill_opacity": tone(expansion, known)[0]}

    def ink(expansion: int, known: Sequence[int]) -> str:
        return f"heattext {tone(expansion, known)[1]} middle"

    return _figure(
        liked,
        lambda shares: shares.expansions,
        lambda expansion: f"e{expansion}",
        style,
        ink,
        "Expansions",
        width,
    )


def _figure(
    liked: Sequence[Liked],
    of: Callable[[Shares], dict[int, float]],
    named: Callable[[int], str],
    style: Callable[[int, Sequence[int]], dict[str, str | float]],
    ink: Callable[[int, Sequence[int]], str],
    title: str,
    width: float,
) -> Markup:
    known = sorted({key for one in liked for shares in _both(one) for key in of(shares)})
    left = 150.0 if width >= 440 else 118.0
    parts: list[Markup] = []
    y = 2.0
    for one in liked:
        lines = name_lines(one.name, width - 8)
        for said in lines:
            y += _LINE
            parts.append(text(0, y, said, class_="value strong start"))
        y += 5
        for words, shares in zip(("its network", "by probabilities"), _both(one), strict=False):
            parts.append(text(left - 8, y + 13, words, class_="tick end"))
            x = left
            for key in known:
                share = of(shares).get(key, 0.0)
                length = (width - left - 2) * share
                if share <= 0:
                    continue
                tip = f"{one.name}, {words}: {named(key)} {100 * share:.0f} %"
                box: dict[str, str | float] = {"x": x, "y": y, "width": max(0.5, length - 1), "height": _BAR}
                parts.append(element("rect", class_="heatground", **box))
                parts.append(element("rect", tooltip(tip), **box, **style(key, known)))
                said = next(
                    (
                        w
                        for w in (f"{named(key)} {100 * share:.0f} %", named(key))
                        if text_width(w, 12) + 4 < length
                    ),
                    "",
                )
                if said:
                    parts.append(text(x + length / 2, y + 13, said, class_=ink(key, known)))
                x += length
            y += _BAR + 3
        y += 8
    spoken = f"{title}. " + ". ".join(
        f"{one.name}, {words}: "
        + ", ".join(f"{named(key)} {100 * share:.0f} %" for key, share in of(shares).items())
        for one in liked
        for words, shares in zip(("its network", "by probabilities"), _both(one), strict=False)
    )
    return figure(width, y, f"{spoken}.", parts)


def _both(one: Liked) -> list[Shares]:
    return [one.network] if one.learned is None else [one.network, one.learned]
