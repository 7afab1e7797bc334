"""How much alike two thumbnails are once one is laid over the other, shifted, stretched and mirrored.

A cropped copy shows a window of the original. Windows are given as what is cut off at both ends of an axis,
in steps of 1/128 of the side, up to 9 steps (7 %). All arrays are float32; ``PHW`` are P thumbnails of 48 x
48 grey levels. Both sides of a comparison are averaged to 24 x 24 after the shift, so that a shift by a part
of a pixel costs little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stages.data.descriptors import CHROMA_SIDE, LUMA_SIDE

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

STEPS_PER_SIDE = 128
_CUTS = 10
"""0 to 9 steps may be cut off at an end. A cut of two ends is one number: ``10 * first + second``."""
_COARSE: tuple[tuple[int, int], ...] = ((0, 0), (60, 0), (6, 0), (0, 60), (0, 6), (66, 66))
"""Rows and columns of the windows that the filter knows: whole, one side cut by 5 %, all sides cut by 5 %."""
_EVEN: Numbers = np.array([_CUTS * low + high for low in range(0, 9, 2) for high in range(0, 9, 2)])
_NOISE_VARIANCE = 4.0
"""Of a grey level of 0 to 255: what recompression may do. It keeps faint drawings from being all noise."""
_EDGE = 0.5
"""A shift of half a pixel of 24 x 24 is not held against two edges that both thumbnails have there."""


@dataclass(frozen=True)
class Likeness:
    """Measures of P pairs, each (P,), after the best alignment."""

    correlation: Floats
    """Of grey levels."""
    local: Floats
    """The largest difference of a patch (2 x 2 of 24 x 24), in grey levels, that no shifted edge explains."""
    colour: Floats
    """Root mean square difference of Cb and Cr, in levels of 0 to 255."""
    mirrored: NDArray[np.bool_]


@cache
def window_matrix(cut: int, side: int) -> Floats:
    """(side / 2, side): linear interpolation of a window to the whole side, then means of two neighbours."""
    low, high = divmod(cut, _CUTS)
    start, width = low / STEPS_PER_SIDE, 1 - (low + high) / STEPS_PER_SIDE
    at = (start + (np.arange(side) + 0.5) / side * width) * side - 0.5
    left = np.clip(np.floor(at).astype(int), 0, side - 2)
    weight = np.clip(at - left, 0.0, 1.0)
    matrix = np.zeros((side, side), np.float32)
    matrix[np.arange(side), left] += 1 - weight
    matrix[np.arange(side), left + 1] += weight
    halved: Floats = matrix.reshape(side // 2, 2, side).mean(axis=1)
    return halved


def coarse_windows(side: int) -> list[tuple[Floats, Floats]]:
    """Row and column matrices of the six windows that are tried first."""
    return [(window_matrix(rows, side), window_matrix(columns, side)) for rows, columns in _COARSE]


@dataclass(frozen=True)
class Coarse:
    """Unit vectors of N thumbnails whose dot products are correlations, ``_NOISE_VARIANCE`` included."""

    whole: Floats
    """(N, 2, 577): as it is, and mirrored."""
    windows: Floats
    """(N, 6, 577): the coarse windows."""

    @classmethod
    def of(cls, images_NHW: Floats) -> Coarse:
        """From thumbnails of 48 x 48."""
        windows = _coarse(images_NHW)
        whole = np.stack([windows[:, 0], windows[:, 0, :, ::-1]], axis=1)
        return cls(_unit(whole), _unit(windows))


def coarse_correlations(whole: Floats, windows: Floats) -> Floats:
    """(P,): the best of six windows and of mirroring, of P pairs of entries of :class:`Coarse`."""
    best: Floats = (windows @ whole.transpose(0, 2, 1)).max(axis=(1, 2))
    return best


def _unit(images_NKHW: Floats) -> Floats:
    flat = images_NKHW.reshape(*images_NKHW.shape[:2], -1)
    flat = flat - flat.mean(axis=2, keepdims=True)
    noise = np.full((*flat.shape[:2], 1), np.sqrt(_NOISE_VARIANCE * flat.shape[2]), np.float32)
    vectors = np.concatenate([flat, noise], axis=2)
    unit: Floats = vectors / np.sqrt(np.square(vectors).sum(axis=2, keepdims=True))
    return unit


def compare(whole_PHW: Floats, whole_PCHW: Floats, windowed_PHW: Floats, windowed_PCHW: Floats) -> Likeness:
    """Whether ``whole`` is like some window of ``windowed``, grey (48 x 48) and colour (2 x 16 x 16)."""
    whole = _window(whole_PHW, 0, LUMA_SIDE)
    tried = [_coarse(windowed_PHW), _coarse(windowed_PHW[:, :, ::-1])]
    scores = _correlations(whole, np.concatenate(tried, axis=1))
    best = scores.argmax(axis=1)
    mirrored = best >= len(_COARSE)
    cuts = np.array(_COARSE)[best % len(_COARSE)]
    turned_PHW = np.where(mirrored[:, None, None], windowed_PHW[:, :, ::-1], windowed_PHW)
    turned_PCHW = np.where(mirrored[:, None, None, None], windowed_PCHW[:, :, :, ::-1], windowed_PCHW)
    rows, columns, correlation, cut_PHW = _refined(whole, turned_PHW, cuts[:, 0])
    colours = _table(CHROMA_SIDE)
    cut_PCHW = colours[rows][:, None] @ turned_PCHW @ colours[columns].transpose(0, 2, 1)[:, None]
    off = cut_PCHW - _window(whole_PCHW, 0, CHROMA_SIDE)
    colour = np.sqrt(np.square(off).mean(axis=(1, 2, 3)))
    return Likeness(correlation, _unexplained(whole, cut_PHW), colour, mirrored)


def _refined(whole: Floats, windowed: Floats, rows: Numbers) -> tuple[Numbers, Numbers, Floats, Floats]:
    """The best cuts, one axis at a time: all cuts in steps of two, then the neighbours."""
    table = _table(LUMA_SIDE)
    pairs = np.arange(len(whole))
    columns = np.zeros_like(rows)
    for step in range(4):
        choices = np.broadcast_to(_EVEN, (len(rows), len(_EVEN))) if step == 0 else _neighbours(columns)
        cut = np.matmul(table[rows], windowed)[:, None]
        tried = np.matmul(cut, table[choices].transpose(0, 1, 3, 2))
        columns = choices[pairs, _correlations(whole, tried).argmax(axis=1)]
        choices = np.broadcast_to(_EVEN, (len(rows), len(_EVEN))) if step == 0 else _neighbours(rows)
        cut = np.matmul(windowed, table[columns].transpose(0, 2, 1))[:, None]
        tried = np.matmul(table[choices], cut)
        scores = _correlations(whole, tried)
        best = scores.argmax(axis=1)
        rows = choices[pairs, best]
    return rows, columns, scores[pairs, best], tried[pairs, best]


def _neighbours(cuts: Numbers) -> Numbers:
    """(P, 9): each cut, and those that differ by one step at one or both ends."""
    low, high = np.divmod(cuts, _CUTS)
    choices = [
        _CUTS * np.clip(low + a, 0, _CUTS - 1) + np.clip(high + b, 0, _CUTS - 1)
        for a in (0, -1, 1)
        for b in (0, -1, 1)
    ]
    return np.stack(choices, axis=1)


@cache
def _table(side: int) -> Floats:
    return np.stack([window_matrix(cut, side) for cut in range(_CUTS * _CUTS)])


def _window(images: Floats, cut: int, side: int) -> Floats:
    matrix = window_matrix(cut, side)
    halved: Floats = np.matmul(np.matmul(matrix, images), matrix.T)
    return halved


def _coarse(images_PHW: Floats) -> Floats:
    windows = [rows @ images_PHW @ columns.T for rows, columns in coarse_windows(LUMA_SIDE)]
    return np.stack(windows, axis=1)


def _correlations(one_PHW: Floats, others_PKHW: Floats) -> Floats:
    """(P, K): correlation of each with its K others, as if both shared noise of ``_NOISE_VARIANCE``."""
    pairs, choices = others_PKHW.shape[:2]
    one = one_PHW.reshape(pairs, 1, -1)
    others = others_PKHW.reshape(pairs, choices, -1)
    one = one - one.mean(axis=2, keepdims=True)
    others = others - others.mean(axis=2, keepdims=True)
    noise = np.float32(_NOISE_VARIANCE * one.shape[2])
    product = (others @ one.transpose(0, 2, 1))[:, :, 0] + noise
    sizes = (np.square(others).sum(axis=2) + noise) * (np.square(one).sum(axis=2) + noise)
    correlations: Floats = product / np.sqrt(sizes)
    return correlations


def _unexplained(one_PHW: Floats, other_PHW: Floats) -> Floats:
    allowed = _EDGE * np.minimum(_steepness(one_PHW), _steepness(other_PHW))
    rest = np.maximum(np.abs(one_PHW - other_PHW) - allowed, 0.0)
    patches = (rest[:, :-1, :-1] + rest[:, 1:, :-1] + rest[:, :-1, 1:] + rest[:, 1:, 1:]) / 4
    largest: Floats = patches.max(axis=(1, 2))
    return largest


def _steepness(images_PHW: Floats) -> Floats:
    """The range of grey levels within one pixel around each."""
    side = images_PHW.shape[1]
    padded = np.pad(images_PHW, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = [padded[:, y : y + side, x : x + side] for y in range(3) for x in range(3)]
    steepness: Floats = np.maximum.reduce(around) - np.minimum.reduce(around)
    return steepness
