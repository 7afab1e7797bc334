"""How accurate each target's trained network is in the precision of every target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifact import Blob
from pipeline.stage import BlobStore
from stages.documents import CellAccuracy, Precision, Verification
from stages.verification.statistics import paired_difference, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cross_accuracies(
    verified: Mapping[str, Verification], store: BlobStore
) -> dict[tuple[str, str], CellAccuracy]:
    """By (network, target), both named by their targets, on the same test images.

    A network that was not verified in a target's precision has none. Raises IntegrityError.
    """
    found: dict[tuple[str, str], CellAccuracy] = {}
    for target, here in verified.items():
        precision = here.runtime.precision
        own_N = _correct(here, precision, store)
        for network, there in verified.items():
            correct_N = _correct(there, precision, store)
            if own_N is None or correct_N is None:
                continue
            accuracy = wilson_interval(int(correct_N.sum()), len(correct_N))
            points = paired_difference(correct_N, own_N)
            same = network == target
            found[network, target] = CellAccuracy(
                percent=100 * accuracy.value,
                interval_95=(100 * accuracy.low, 100 * accuracy.high),
                points=0.0 if same else 100 * points.value,
                points_interval_95=(0.0, 0.0) if same else (100 * points.low, 100 * points.high),
            )
    return found


def _correct(verified: Verification, precision: Precision, store: BlobStore) -> NDArray[np.bool_] | None:
    """Which test images the found network classifies correctly in a precision; None: not known."""
    blob = _blob(verified, precision)
    if blob is None:
        return None
    packed = np.frombuffer(store.read_bytes(blob), np.uint8)
    return np.unpackbits(packed, count=verified.test_images).astype(np.bool_)


def _blob(verified: Verification, precision: Precision) -> Blob | None:
    if verified.runtime.precision == precision:
        return next(network.correct for network in verified.networks if network.role == "found")
    return next((file.correct for file in verified.precisions if file.precision == precision), None)
