"""The answers that `verify` counts: of LiteRT, and of a device with another engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.memory_context import MemoryScratch, MemoryStore, memory_context
from support.scripted_device import ScriptedDevice
from support.verify_inputs import (
    ANCHOR,
    NETWORKS,
    TRUE_MS,
    converted,
    images,
    latency_model,
    pruned,
    resumed,
    small_net,
    stage,
)

from android_bench.device import DEFAULT_OPTIONS, BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError, DeviceError, UsageError
from stages.conversion.block_weights import random_weights
from stages.conversion.flatbuffer import network_model
from stages.documents import ConvertedNetwork, ConvertedNetworks, ModelFile, Verification
from stages.verification.answers import answers_of


@dataclass
class OtherEngine(ScriptedDevice):
    """A device that is given exported models: it answers as their files do, and notes what it times."""

    files: Mapping[bytes, bytes] = field(default_factory=dict)
    given: dict[str, bytes] = field(default_factory=dict)

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        self.given[request.name] = request.model
        return super().benchmark(request)

    def run_model(
        self, model: bytes, inputs_NHWC: NDArray[Any], options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> NDArray[np.float32]:
        with LocalDevice() as here:
            return here.run_model(self.files[model], inputs_NHWC, options)


def exported(store: MemoryStore, networks: ConvertedNetworks) -> tuple[ConvertedNetworks, OtherEngine]:
    """The networks with an exported model each, and the engine that knows what they compute."""
    files = {
        f"exported {network.name}".encode(): store.read_bytes(network.file().blob)
        for network in networks.networks
    }
    with_onnx = tuple(
        network.model_copy(update={"onnx": store.put_bytes(model, ".onnx")})
        for network, model in zip(networks.networks, files, strict=True)
    )
    return networks.model_copy(update={"networks": with_onnx}), OtherEngine(TRUE_MS, files=files)


def verified_by(
    engine: OtherEngine, networks: ConvertedNetworks, store: MemoryStore, answered: MemoryScratch
) -> Verification:
    scratch = resumed(answered)
    del scratch.logs["rounds"]
    context = memory_context("verify", store=store, scratch=scratch)
    verify = replace(stage(engine), engine="onnx")
    return verify.run(context, converted=networks, latency=latency_model(), pruned=pruned())


def test_another_engine_times_what_the_conversion_exported(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    changed, engine = exported(store, networks)
    result = verified_by(engine, changed, store, answered)
    anchor = engine.given.pop(ANCHOR)
    assert engine.given == {name: f"exported {name}".encode() for name in NETWORKS}
    assert anchor[4:8] == b"TFL3", "networks that are not converted stay as they were measured"
    assert {network.model for network in result.networks} == {n.file().blob for n in networks.networks}


def test_exported_models_that_answer_otherwise_or_were_not_kept_are_refused(
    store: MemoryStore, networks: ConvertedNetworks, answered: MemoryScratch
) -> None:
    changed, engine = exported(store, networks)
    wrong = dict(engine.files)
    wrong[b"exported random"] = wrong[b"exported mobilenet_v2_w1.0"]
    with pytest.raises(ConversionError, match="network random: script 1 answers otherwise"):
        verified_by(OtherEngine(TRUE_MS, files=wrong), changed, store, answered)
    with pytest.raises(UsageError, match="ONNX model of network found was not kept"):
        verified_by(engine, networks, store, answered)


def files_of(networks: Sequence[ConvertedNetwork]) -> dict[str, ModelFile]:
    return {network.name: network.file() for network in networks}


def test_answers_are_those_of_litert_and_are_asked_once(store: MemoryStore) -> None:
    from ai_edge_litert.interpreter import Interpreter

    test = images(50)
    networks = converted(store, ["found"]).networks
    interpreter = Interpreter(model_content=store.read_bytes(networks[0].file().blob), num_threads=1)
    interpreter.allocate_tensors()
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
    expected = []
    for index in range(len(test)):
        interpreter.set_tensor(source["index"], test.batch_NHWC(slice(index, index + 1)))
        interpreter.invoke()
        expected.append(int(interpreter.get_tensor(target["index"]).argmax()))
    scratch = MemoryScratch()
    with LocalDevice() as device:
        answers, seconds = answers_of(
            memory_context("verify", store=store, scratch=scratch), files_of(networks), test, device
        )
    assert answers["found"].classes_N.tolist() == expected
    assert seconds > 0
    again, _ = answers_of(
        memory_context("verify", store=store, scratch=scratch), files_of(networks), test, ScriptedDevice({})
    )
    assert again["found"].classes_N.tolist() == expected
    assert again["found"].calibration_error_percent == answers["found"].calibration_error_percent


def test_a_model_that_answers_nan_is_refused(store: MemoryStore) -> None:
    net = small_net(4)
    huge = {name: np.full_like(w, 3e38) for name, w in random_weights(net.blocks).items()}
    networks = converted(store, ["found"], {"found": network_model(net, huge)}).networks
    with (
        LocalDevice() as device,
        pytest.raises(DeviceError, match=r"found: the \.tflite model answered with NaN"),
    ):
        answers_of(memory_context("verify", store=store), files_of(networks), images(3), device)
