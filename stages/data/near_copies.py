"""(docstring)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stages.data.alignment import (
    Coarse,
    Floats,
    Likeness,
    Numbers,
    coarse_correlations,
    coarse_windows,
    compare,
)
from stages.data.descriptors import BLANK_RANGE, CHROMA_SIDE, LUMA_SIDE, ImageDescriptor

MIN_FILTER_CORRELATION = 0.93
MIN_COARSE_CORRELATION = 0.9
MIN_CORRELATION = 0.975
MAX_LOCAL = 23.0
MAX_COLOUR = 9.0
_FREQUENCIES = 8
_ROWS, _COLUMNS = 256, 1024
_PAIRS = 64


@dataclass(frozen=True)
class NearPair:
    """Two images that show one picture. ``first < second``."""

    first: int
    second: int
    distance: float
    """1 - correlation of the aligned grey thumbnails, rounded to 4 digits."""
    mirrored: bool


def near_pairs(
    descriptors: Sequence[ImageDescriptor], on_progress: Callable[[float], None] | None = None
) -> list[NearPair]:
    """All near copies among images, closest first. Blank images (of one colour) are copies of none."""
    luma = _stacked([descriptor.luma for descriptor in descriptors], (LUMA_SIDE, LUMA_SIDE))
    spread = np.ptp(luma.reshape(len(luma), -1), axis=1) if len(luma) else np.zeros(0)
    shown = np.flatnonzero(spread >= BLANK_RANGE)
    found: dict[tuple[int, int], NearPair] = {}
    for done, whole, windowed in _candidates(luma[shown]):
        for at in range(0, len(whole), _PAIRS):
            one, other = shown[whole[at : at + _PAIRS]], shown[windowed[at : at + _PAIRS]]
            likeness = likeness_of([descriptors[i] for i in one], [descriptors[i] for i in other])
            for index in np.flatnonzero(is_near(likeness)):
                first, second = sorted((int(one[index]), int(other[index])))
                distance = round(max(0.0, 1.0 - float(likeness.correlation[index])), 4)
                pair = NearPair(first, second, distance, bool(likeness.mirrored[index]))
                if (first, second) not in found or distance < found[first, second].distance:
                    found[first, second] = pair
        if on_progress is not None:
            on_progress(done)
    return sorted(found.values(), key=lambda pair: (pair.distance, pair.first, pair.second))


def likeness_of(whole: Sequence[ImageDescriptor], windowed: Sequence[ImageDescriptor]) -> Likeness:
    """How much each of ``whole`` is like some window of its partner in ``windowed``."""
    return compare(_grey(whole), _colour(whole), _grey(windowed), _colour(windowed))


def is_near(likeness: Likeness) -> NDArray[np.bool_]:
    """Which pairs are near copies, by the reviewed thresholds."""
    near: NDArray[np.bool_] = (
        (likeness.correlation >= MIN_CORRELATION)
        & (likeness.local <= MAX_LOCAL)
        & (likeness.colour <= MAX_COLOUR)
    )
    return near


def _candidates(luma_NHW: NDArray[np.uint8]) -> Iterator[tuple[float, Numbers, Numbers]]:
    """Pairs whose hashes are alike: the share that is done, the whole ones, those that a window is cut from.

    A mirror image has the same even columns of the spectrum and the odd ones with the other sign, so that one
    product of each serves both.
    """
    count = len(luma_NHW)
    hashes = [_hashes(luma_NHW[at : at + _COLUMNS]) for at in range(0, count, _COLUMNS)]
    wholes = [block[0] for block in hashes]
    for number, windows in enumerate(hashes):
        start = number * _COLUMNS
        fine = Coarse.of(luma_NHW[start : start + _COLUMNS].astype(np.float32)).windows
        for at, (even, odd) in enumerate(wholes):
            for row in range(0, len(even), _ROWS):
                alike = _alike(even[row : row + _ROWS], odd[row : row + _ROWS], windows)
                first = at * _COLUMNS + row
                whole, windowed = np.nonzero(alike)
                kept = whole + first != windowed + start
                whole, windowed = whole[kept], windowed[kept]
                if len(whole):
                    kept = _alike_in_detail(luma_NHW[first : first + _ROWS], fine, whole, windowed)
                    whole, windowed = whole[kept], windowed[kept]
                yield (number + (at + 1) / len(wholes)) / len(hashes), whole + first, windowed + start


def _alike_in_detail(
    luma_NHW: NDArray[np.uint8], windows: Floats, whole: Numbers, windowed: Numbers
) -> NDArray[np.bool_]:
    used, places = np.unique(whole, return_inverse=True)
    vectors = Coarse.of(luma_NHW[used].astype(np.float32)).whole
    correlations = [
        coarse_correlations(vectors[places[at : at + _PAIRS]], windows[windowed[at : at + _PAIRS]])
        for at in range(0, len(whole), _PAIRS)
    ]
    alike: NDArray[np.bool_] = np.concatenate(correlations) >= MIN_COARSE_CORRELATION
    return alike


def _alike(even: Floats, odd: Floats, windows: Sequence[tuple[Floats, Floats]]) -> NDArray[np.bool_]:
    alike = np.zeros((len(even), len(windows[0][0])), bool)
    for window_even, window_odd in windows:
        correlation = odd @ window_odd.T
        np.abs(correlation, out=correlation)
        correlation += even @ window_even.T
        alike |= correlation >= MIN_FILTER_CORRELATION
    return alike


def _hashes(luma_NHW: NDArray[np.uint8]) -> list[tuple[Floats, Floats]]:
    """For each coarse window the even and odd columns of the spectrum, (N, 32) each; together of length 1."""
    images = luma_NHW.astype(np.float32)
    result = []
    for rows, columns in coarse_windows(LUMA_SIDE):
        spectrum = (_cosines() @ rows) @ images @ (_cosines() @ columns).T
        spectrum[:, 0, 0] = 0.0
        spectrum /= np.sqrt(np.square(spectrum).sum(axis=(1, 2), keepdims=True)) + np.float32(1e-3)
        parts = [np.ascontiguousarray(spectrum[:, :, first::2]) for first in (0, 1)]
        result.append((parts[0].reshape(len(images), -1), parts[1].reshape(len(images), -1)))
    return result


@cache
def _cosines() -> Floats:
    """(8, 24): the first rows of the orthonormal DCT-II."""
    side = LUMA_SIDE // 2
    k, n = np.mgrid[:_FREQUENCIES, :side]
    rows = np.cos(np.pi * (2 * n + 1) * k / (2 * side)) * np.sqrt(2 / side)
    rows[0] /= np.sqrt(2)
    cosines: Floats = rows.astype(np.float32)
    return cosines


def _grey(descriptors: Sequence[ImageDescriptor]) -> Floats:
    stacked = _stacked([descriptor.luma for descriptor in descriptors], (LUMA_SIDE, LUMA_SIDE))
    return stacked.astype(np.float32)


def _colour(descriptors: Sequence[ImageDescriptor]) -> Floats:
    planes = [descriptor.blue + descriptor.red for descriptor in descriptors]
    return _stacked(planes, (2, CHROMA_SIDE, CHROMA_SIDE)).astype(np.float32)


def _stacked(planes: Sequence[bytes], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(planes), np.uint8).reshape(len(planes), *shape)
