"""Near copies among images: a perceptual hash picks pairs, an alignment of their thumbnails decides.

**The hash.** As in pHash (Zauner, 2010), the lowest 8 x 8 frequencies of the thumbnail's cosine transform;
they are kept as numbers, not as signs, and compared by their correlation. The package ImageHash 4.3 was
tried first, on thumbnails (64 x 64) of 2,500 copies planted in drawings and photographs: to find 99 % of
them, mirror images hashed too, its ``phash`` must accept 20 of 64 bits, which 3.3 % of all other pairs do as
well, and to find all, 32 bits, which is chance. A crop by 5 % changes up to half of the bits. Here each
picture is hashed whole, and as six windows of it (whole, one side cut by 5 %, all cut); a mirror image is
the same hash with other signs. Copies planted in the same pictures correlate by 0.967 or more. A second
filter does the same on all frequencies.

**The alignment** (:mod:`stages.data.alignment`) then demands all three: the correlation of the aligned grey
thumbnails, a bound on the largest local difference, and one on colour.

**What was reviewed.** Thresholds were chosen on the folders animals, food, people and recreation of Debian's
openclipart-png, and confirmed on buildings, office, plants, tools and transportation and on
tuxpaint-stamps-default: all pairs up to 1.15 times the thresholds were looked at side by side. A drawing
with another background or frame, or slightly other shades, counts as a copy: it is better kept together.
Just beyond the thresholds lie playing cards that differ in the suit alone and drawings with another colour.
Within them, and wrong, are some faces with another mouth, drawings with a small thing added, and signs that
differ in one small figure. Letters and arrows that are mirror images of others (b and d) are found as
copies, since mirrored copies must be.

**Cost**, one thread of an AMD EPYC: the hash takes 4e-8 s of processor time for each ordered pair of images:
400 s for 100,000 images, 11 hours for a million. Each pair that is aligned takes 1.1 ms; of clip art, most of
it on white, 0.04 % of the ordered pairs are aligned, which would be another hour for 100,000 images. Memory:
0.3 kB an image (its hash as a whole) and 70 MB for the blocks; descriptors are read as they are needed.
"""

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
from stages.data.descriptors import CHROMA_SIDE, LUMA_SIDE, ImageDescriptor

MIN_FILTER_CORRELATION = 0.93
"""Of the low frequencies, for a pair to be looked at."""
MIN_COARSE_CORRELATION = 0.9
"""Of the thumbnails in one of the six windows, for a pair to be aligned."""
MIN_CORRELATION = 0.975
"""Of the aligned grey thumbnails of a near copy."""
MAX_LOCAL = 23.0
"""Grey levels by which a small patch of a near copy may differ (:class:`stages.data.alignment.Likeness`)."""
MAX_COLOUR = 9.0
"""Levels by which the colours of a near copy may differ, root mean square."""
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
    descriptors: Sequence[ImageDescriptor],
    on_progress: Callable[[float], None] | None = None,
    *,
    among: Sequence[int] | None = None,
) -> list[NearPair]:
    """All near copies among images, closest first. Blank images (of one colour) are copies of none.

    ``among``: the images that are looked at; None: all.
    """
    images = range(len(descriptors)) if among is None else among
    shown = np.array([number for number in images if not descriptors[number].is_blank], np.int64)
    found: dict[tuple[int, int], NearPair] = {}
    for done, whole, windowed in _candidates(_Luma(descriptors, shown)):
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


@dataclass(frozen=True)
class _Luma:
    """Thumbnails of the chosen images, stacked when they are asked for: uint8 (n, 48, 48)."""

    descriptors: Sequence[ImageDescriptor]
    chosen: Numbers

    def __len__(self) -> int:
        return len(self.chosen)

    def of(self, which: slice | Numbers) -> NDArray[np.uint8]:
        """Those at some places of ``chosen``."""
        planes = [self.descriptors[int(number)].luma for number in self.chosen[which]]
        return _stacked(planes, (LUMA_SIDE, LUMA_SIDE))


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


def _candidates(images: _Luma) -> Iterator[tuple[float, Numbers, Numbers]]:
    """Pairs whose hashes are alike: the share that is done, the whole ones, those that a window is cut from.

    A mirror image has the same even columns of the spectrum and the odd ones with the other sign, so that one
    product of each serves both.
    """
    blocks = [slice(at, at + _COLUMNS) for at in range(0, len(images), _COLUMNS)]
    wholes = [_hashes(images.of(block), coarse_windows(LUMA_SIDE)[:1])[0] for block in blocks]
    for number, block in enumerate(blocks):
        luma_NHW = images.of(block)
        windows = _hashes(luma_NHW, coarse_windows(LUMA_SIDE))
        fine = Coarse.of(luma_NHW.astype(np.float32)).windows
        for at, (even, odd) in enumerate(wholes):
            for row in range(0, len(even), _ROWS):
                alike = _alike(even[row : row + _ROWS], odd[row : row + _ROWS], windows)
                whole, windowed = np.nonzero(alike)
                whole = whole + at * _COLUMNS + row
                kept = whole != windowed + block.start
                whole, windowed = whole[kept], windowed[kept]
                if len(whole):
                    kept = _alike_in_detail(images, fine, whole, windowed)
                    whole, windowed = whole[kept], windowed[kept]
                yield (number + (at + 1) / len(wholes)) / len(blocks), whole, windowed + block.start


def _alike_in_detail(images: _Luma, windows: Floats, whole: Numbers, windowed: Numbers) -> NDArray[np.bool_]:
    used, places = np.unique(whole, return_inverse=True)
    vectors = Coarse.of(images.of(used).astype(np.float32)).whole
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


def _hashes(
    luma_NHW: NDArray[np.uint8], windows: Sequence[tuple[Floats, Floats]]
) -> list[tuple[Floats, Floats]]:
    """For each window the even and odd columns of the spectrum, (N, 32) each; together of length 1."""
    images = luma_NHW.astype(np.float32)
    result = []
    for rows, columns in windows:
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
