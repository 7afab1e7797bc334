"""A large depthwise convolution as four small ones that compute exactly the same.

XNNPACK has no depthwise kernel above 25 taps: a 7x7 convolution falls back to a path that takes many times
as long as 5x5. Its taps at even and at odd places, in rows and in columns, are four convolutions with
dilation 2 of at most 4x4 taps, whose sum it is::

    place   0 1 2 3 4 5 6        even: 0 2 4 6, as far before the centre as the whole kernel
    kernel  E o E o E o E        odd:  1 3 5, one place less on both sides

TensorFlow's SAME padding puts each of them where it belongs, at stride 2 too: a kernel that reaches two
places less gets one zero less on either side.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from numpy.typing import NDArray

DILATION = 2
PARTS = 4


def split_kernel(kernel: NDArray[Any], row_axis: int, column_axis: int) -> Iterator[NDArray[Any]]:
    """The four parts: taps at even (0) and odd (1) rows and columns, see :func:`first_taps`."""
    for first_row, first_column in first_taps():
        index = [slice(None)] * kernel.ndim
        index[row_axis] = slice(first_row, None, DILATION)
        index[column_axis] = slice(first_column, None, DILATION)
        yield kernel[tuple(index)]


def first_taps() -> Iterator[tuple[int, int]]:
    """(row, column) of the first tap of each part, in the order of :func:`split_kernel`."""
    return product(range(DILATION), range(DILATION))
