"""docstring later"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stages.data.descriptors import BLANK_RANGE, CHROMA_SIDE, LUMA_SIDE, ImageDescriptor

Floats = NDArray[np.float32]
Window = tuple[float, float]

FREQUENCIES = 8
MIN_FILTER_CORRELATION = 0.88
_CROP = 0.05
_WHOLE: Window = (0.0, 1.0)
_COARSE: tuple[tuple[Window, Window], ...] = (
    (_WHOLE, _WHOLE),
    ((_CROP, 1.0), _WHOLE),
    ((0.0, 1.0 - _CROP), _WHOLE),
    (_WHOLE, (_CROP, 1.0)),
    (_WHOLE, (0.0, 1.0 - _CROP)),
    ((_CROP, 1.0 - _CROP), (_CROP, 1.0 - _CROP)),
)
_FINE: tuple[Window, ...] = tuple((low / 64, 1.0 - high / 64) for low in range(5) for high in range(5))
_CONTRAST_FLOOR = 4.0
_ROWS, _COLUMNS = 256, 1024


@cache
def _resampling(window: Window, side: int) -> Floats:
    """(side / 2, side): linear interpolation of a window to the whole side, then the means of twos."""
    low, high = window
    at = (low + (np.arange(side) + 0.5) / side * (high - low)) * side - 0.5
    left = np.clip(np.floor(at).astype(int), 0, side - 2)
    weight = np.clip(at - left, 0.0, 1.0)
    matrix = np.zeros((side, side), np.float32)
    matrix[np.arange(side), left] += 1 - weight
    matrix[np.arange(side), left + 1] += weight
    return matrix.reshape(side // 2, 2, side).mean(axis=1)


@cache
def _cosines() -> Floats:
    """(8, 32): the first rows of the orthonormal DCT-II."""
    half = LUMA_SIDE // 2
    k, n = np.mgrid[:FREQUENCIES, :half]
    rows = np.cos(np.pi * (2 * n + 1) * k / (2 * half)) * np.sqrt(2 / half)
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)


def _hashes(luma_NHW: Floats, rows: Window, columns: Window) -> tuple[Floats, Floats]:
    """Low frequencies of a window, as unit vectors: the even and the odd ones of the columns, (N, 32) each."""
    vertical = _cosines() @ _resampling(rows, LUMA_SIDE)
    horizontal = _cosines() @ _resampling(columns, LUMA_SIDE)
    spectrum = np.matmul(np.matmul(vertical, luma_NHW), horizontal.T)
    spectrum[:, 0, 0] = 0.0
    size = np.sqrt(np.square(spectrum).sum(axis=(1, 2), keepdims=True)) + _CONTRAST_FLOOR
    spectrum /= size
    count = len(luma_NHW)
    return (
        np.ascontiguousarray(spectrum[:, :, 0::2]).reshape(count, -1),
        np.ascontiguousarray(spectrum[:, :, 1::2]).reshape(count, -1),
    )


def _candidates(luma: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (whole, windowed) ..."""
    count = len(luma)
    even, odd = _hashes(luma.astype(np.float32), _WHOLE, _WHOLE)
    for start in range(0, count, _COLUMNS):
        block = luma[start : start + _COLUMNS].astype(np.float32)
        windows = [_hashes(block, *window) for window in _COARSE]
        for first in range(0, count, _ROWS):
            rows = slice(first, first + _ROWS)
            found = np.zeros((len(even[rows]), len(block)), bool)
            for window_even, window_odd in windows:
                both = np.abs(odd[rows] @ window_odd.T)
                both += even[rows] @ window_even.T
                found |= both >= MIN_FILTER_CORRELATION
            whole, windowed = np.nonzero(found)
            whole, windowed = whole + first, windowed + start
            other = whole != windowed
            yield whole[other], windowed[other]


@dataclass(frozen=True)
class Likeness:
    correlation: Floats
    local: Floats
    colour: Floats


def _correlations(a_PHW: Floats, b_PKHW: Floats) -> Floats:
    """(P, K)"""
    count, choices = b_PKHW.shape[:2]
    a = a_PHW.reshape(count, 1, -1)
    b = b_PKHW.reshape(count, choices, -1)
    a = a - a.mean(axis=2, keepdims=True)
    b = b - b.mean(axis=2, keepdims=True)
    product = np.matmul(b, a.transpose(0, 2, 1))[:, :, 0]
    size = np.sqrt(np.square(b).sum(axis=2)) * np.sqrt(np.square(a).sum(axis=2)) + 1e-6
    return (product / size).astype(np.float32)


def _align(a: Floats, b: Floats) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The window of b that is most like a: correlation (P,), window (P, 32, 32), its rows, its columns in _FINE."""
    fine = np.stack([_resampling(window, LUMA_SIDE) for window in _FINE])
    coarse = np.stack(
        [
            np.matmul(np.matmul(_resampling(rows, LUMA_SIDE), b), _resampling(columns, LUMA_SIDE).T)
            for rows, columns in _COARSE
        ],
        axis=1,
    )
    best = _correlations(a, coarse).argmax(axis=1)
    rows = _NEAREST_ROWS[best]
    pairs = np.arange(len(a))
    for _ in range(2):
        cut = np.matmul(fine[rows], b)
        tried = np.matmul(cut[:, None], fine.transpose(0, 2, 1)[None])
        columns = _correlations(a, tried).argmax(axis=1)
        cut = np.matmul(b, fine[columns].transpose(0, 2, 1))
        tried = np.matmul(fine[None], cut[:, None])
        scores = _correlations(a, tried)
        rows = scores.argmax(axis=1)
    return scores[pairs, rows], tried[pairs, rows], rows, columns


_NEAREST_ROWS = np.array(
    [
        min(range(len(_FINE)), key=lambda f: abs(_FINE[f][0] - r[0]) + abs(_FINE[f][1] - r[1]))
        for r, _ in _COARSE
    ]
)


def compare(a: Sequence[ImageDescriptor], b: Sequence[ImageDescriptor]) -> Likeness:
    luma_a, luma_b = _luma(a), _luma(b)
    chroma_a, chroma_b = _chroma(a), _chroma(b)
    whole = _resampling(_WHOLE, LUMA_SIDE)
    luma_a = whole @ luma_a @ whole.T
    wc = _resampling(_WHOLE, CHROMA_SIDE)
    chroma_a = wc @ chroma_a @ wc.T
    results = []
    for mirrored in (False, True):
        lb = luma_b[:, :, ::-1] if mirrored else luma_b
        cb = chroma_b[:, :, :, ::-1] if mirrored else chroma_b
        score, window, rows, columns = _align(luma_a, lb)
        fine = np.stack([_resampling(w, CHROMA_SIDE) for w in _FINE])
        cut = np.matmul(np.matmul(fine[rows][:, None], cb), fine[columns].transpose(0, 2, 1)[:, None])
        colour = np.sqrt(np.square(cut - chroma_a).mean(axis=(1, 2, 3)))
        results.append((score, _local(luma_a, window), colour))
    plain, mirror = results
    better = mirror[0] > plain[0]
    return Likeness(*(np.where(better, m, p) for m, p in zip(mirror, plain, strict=True)))


def _local(a: Floats, b: Floats) -> Floats:
    """largest mean difference of a 4x4 block, grey levels, no gain."""
    k = LUMA_SIDE // 16
    diff = (a - b).reshape(len(a), 8, k, 8, k)
    return np.abs(diff).mean(axis=(2, 4)).max(axis=(1, 2))


def _luma(d: Sequence[ImageDescriptor]) -> Floats:
    return (
        np.stack([np.frombuffer(x.luma, np.uint8) for x in d])
        .reshape(-1, LUMA_SIDE, LUMA_SIDE)
        .astype(np.float32)
    )


def _chroma(d: Sequence[ImageDescriptor]) -> Floats:
    return (
        np.stack([np.frombuffer(x.blue + x.red, np.uint8) for x in d])
        .reshape(-1, 2, CHROMA_SIDE, CHROMA_SIDE)
        .astype(np.float32)
    )
