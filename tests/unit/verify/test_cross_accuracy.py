"""Every target's trained network in the precision of every target, on the same test images."""

from __future__ import annotations

import numpy as np
import pytest
from support.memory_context import MemoryStore
from support.sample_documents import sample_documents

from android_bench.device import RuntimeOptions
from pipeline.artifact import Blob
from stages.documents import Precision, Verification
from stages.verification.cross_accuracy import cross_accuracies

IMAGES = 1000


def verified(store: MemoryStore, wrong: dict[Precision, int], runtime: Precision = "float32") -> Verification:
    """A found network that errs on the first so many images, by its file's precision."""
    document = sample_documents()["verify"]
    assert isinstance(document, Verification)

    def bits(precision: Precision) -> Blob:
        right_N = np.arange(IMAGES) >= wrong[precision]
        return store.put_bytes(np.packbits(right_N).tobytes(), ".bits")

    files = tuple(
        file.model_copy(update={"correct": bits(file.precision)})
        for file in document.precisions
        if file.precision in wrong
    )
    networks = tuple(
        network.model_copy(update={"correct": bits(runtime)}) if network.role == "found" else network
        for network in document.networks
    )
    return document.model_copy(
        update={
            "networks": networks,
            "precisions": files,
            "test_images": IMAGES,
            "runtime": RuntimeOptions(precision=runtime),
        }
    )


def test_a_cell_is_of_the_targets_precision_and_paired_with_its_own_network() -> None:
    store = MemoryStore()
    found = cross_accuracies(
        {
            "a": verified(store, {"float32": 100, "int8": 150}),
            "b": verified(store, {"float32": 90, "int8": 120}, "int8"),
        },
        store,
    )
    assert {key: cell.percent for key, cell in found.items()} == {
        ("a", "a"): 90.0,
        ("b", "a"): 91.0,
        ("a", "b"): 85.0,
        ("b", "b"): 88.0,
    }
    assert found["a", "b"].points == pytest.approx(-3.0, abs=0.1)
    low, high = found["a", "b"].points_interval_95
    # All 30 images that differ do so in one direction.
    assert -4.5 < low < high < -1.5
    assert found["b", "b"].points_interval_95 == (0.0, 0.0)
    low, high = found["b", "b"].interval_95
    assert 85.5 < low < 88 < high < 90


def test_a_network_without_a_file_in_that_precision_has_no_accuracy_there() -> None:
    store = MemoryStore()
    found = cross_accuracies(
        {
            "phone": verified(store, {"int8": 120}, "int8"),
            "engine": verified(store, {"float32": 90}),
        },
        store,
    )
    assert set(found) == {("phone", "phone"), ("engine", "engine")}
