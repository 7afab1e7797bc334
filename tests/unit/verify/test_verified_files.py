"""The found network's files beside float32, and what a search in int8 compares."""

from __future__ import annotations

import numpy as np
import pytest
from support.memory_context import MemoryStore, memory_context
from support.scripted_device import ScriptedDevice
from support.verify_inputs import (
    ANCHOR,
    NETWORKS,
    TRUE_MS,
    converted,
    images,
    latency_model,
    pruned,
    stage,
)

from android_bench.device import RuntimeOptions
from android_bench.local.device import LocalDevice
from stages.conversion.quantize import in_precision
from stages.documents import ConvertedNetworks, ModelFile, Precision, Quantization, Verification
from stages.verification.answers import answers_of, calibration_error

SIDE_MS = {"found+float16": 0.2, "found+int8": 0.08}


def in_precisions(
    store: MemoryStore, networks: ConvertedNetworks, names: list[str], *precisions: Precision
) -> ConvertedNetworks:
    """The same networks, those named with further files, as ``convert`` makes them."""
    changed = []
    for network in networks.networks:
        plain = network.file()
        files = [plain]
        for precision in precisions if network.name in names else ():
            model = in_precision(store.read_bytes(plain.blob), precision)
            files.append(
                ModelFile(
                    precision=precision,
                    input_type="uint8" if precision == "int8" else "float32",
                    output="probabilities",
                    blob=store.put_bytes(model, ".tflite"),
                    check=plain.check,
                    quantization=Quantization(
                        calibration_images=0,
                        images=1,
                        accuracy_percent=50.0,
                        float32_accuracy_percent=50.0,
                        fine_tuned=False,
                    ),
                )
            )
        changed.append(network.model_copy(update={"files": tuple(files)}))
    return ConvertedNetworks(networks=tuple(changed))


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def beside_float32(store: MemoryStore) -> Verification:
    networks = in_precisions(store, converted(store, NETWORKS), ["found"], "float16", "int8")
    return stage(ScriptedDevice({**TRUE_MS, **SIDE_MS})).run(
        memory_context("verify", store=store),
        converted=networks,
        latency=latency_model(),
        pruned=pruned(),
    )


def test_each_file_of_the_found_network_is_measured_beside_float32(beside_float32: Verification) -> None:
    plain, half, int8 = beside_float32.precisions
    assert [f.precision for f in (plain, half, int8)] == ["float32", "float16", "int8"]
    assert (plain.accuracy_points, plain.latency_ratio) == (None, None)
    found = next(network for network in beside_float32.networks if network.name == "found")
    assert plain.accuracy_percent == found.accuracy_percent
    assert plain.measurement == found.measurement
    assert int8.latency_ratio == pytest.approx(0.4, rel=0.03)
    assert int8.latency_ratio_interval_95 is not None
    assert int8.latency_ratio_interval_95[0] < 0.4 < int8.latency_ratio_interval_95[1]
    assert half.latency_ratio == pytest.approx(1.0, rel=0.03)
    assert half.accuracy_points == pytest.approx(half.accuracy_percent - plain.accuracy_percent)
    assert half.model.size_bytes < plain.model.size_bytes


def test_files_beside_the_compared_one_are_no_networks(beside_float32: Verification) -> None:
    assert [network.name for network in beside_float32.networks] == NETWORKS
    assert all(network.model.suffix == ".tflite" for network in beside_float32.networks)


def test_a_search_in_int8_compares_int8_with_int8(store: MemoryStore) -> None:
    networks = in_precisions(store, converted(store, NETWORKS), NETWORKS, "int8")
    in_int8 = latency_model().model_copy(
        update={"precision": "int8", "runtime": RuntimeOptions(precision="int8")}
    )
    device = ScriptedDevice({**TRUE_MS, "found+float32": 0.5})
    result = stage(device).run(
        memory_context("verify", store=store), converted=networks, latency=in_int8, pruned=pruned()
    )
    int8 = {n.name: n.file("int8").blob for n in networks.networks}
    assert {network.name: network.model for network in result.networks} == int8
    assert {f.precision: f.latency_ratio for f in result.precisions} == {
        "float32": None,
        "int8": pytest.approx(0.4, rel=0.03),
    }
    assert result.anchor is not None
    assert ANCHOR in device.order, "the anchor is timed in int8, too"


def test_an_int8_file_is_given_pixels_and_its_probabilities_are_numbers(store: MemoryStore) -> None:
    test = images(40)
    networks = in_precisions(store, converted(store, ["found"]), ["found"], "int8")
    files = {f.precision: f for f in networks.networks[0].files}
    with LocalDevice() as device:
        answers, _ = answers_of(memory_context("verify", store=store), files, test, device)
    same = answers["int8"].classes_N == answers["float32"].classes_N
    assert same.mean() > 0.6, "made-up ranges, but the same network"


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.full(100, 0.9)
    assert calibration_error(sure, np.arange(100) < 90) == pytest.approx(0)
    assert calibration_error(sure, np.arange(100) < 60) == pytest.approx(0.3)
    two_bins = np.concatenate([np.full(50, 0.95), np.full(50, 0.15)])
    right = np.concatenate([np.arange(50) < 40, np.arange(50) < 10])
    assert calibration_error(two_bins, right) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0
