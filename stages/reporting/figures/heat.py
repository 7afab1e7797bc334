"""The tone of a cell by the share that it stands for, and the ink that can be read on it."""

from __future__ import annotations


def heat_tone(share: float) -> tuple[float, str]:
    """The opacity of a cell's colour above its ground, and the style class of the text in it.

    ``share`` is from 0 to 1. No text has a contrast of 4.5 on the middle tones, neither dark nor light: they
    are left out. The opacity grows with the share all the same.
    """
    if share <= 0.5:
        return round(0.9 * share, 3), "strong"
    return round(0.82 + 0.36 * (share - 0.5), 3), "dark"
