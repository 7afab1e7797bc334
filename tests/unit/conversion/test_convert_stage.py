"""The stage: all networks, checked, and a killed run that goes on where it was."""

from __future__ import annotations

import errno
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.toy_search import latency_model

from android_bench.local.device import LocalDevice
from nasflow.base.errors import (
    ConversionError,
    IntegrityError,
    MachineError,
    RunInterruptedError,
    UsageError,
)
from pipeline.events import Event, Progress
from pipeline.stage import Context
from pipeline.store.scratch import FolderScratch
from pipeline.store.store import Store
from stages.conversion.config import ConvertConfig
from stages.conversion.edge_images import extreme_images
from stages.conversion.softmax import probabilities_of
from stages.convert import Convert, KeptFile, Plan
from stages.data.config import DataConfig
from stages.documents import ConversionCheck, ConvertedNetworks, Role, TrainedNetwork, TrainedNetworks
from stages.nn.network import Network, save_weights
from stages.space.search_space import Candidate, NetConfig, SearchSpace, StageSpec, StemSpec

SPACE = SearchSpace(
    name="tiny",
    resolution=32,
    classes=10,
    stem=StemSpec(width=8),
    stages=(StageSpec(width=8, layers=1, stride=2),),
    head_width=16,
    candidates=(Candidate(kernel=3, expansion=1), Candidate(kernel=5, expansion=2)),
)
STAGE = Convert(config=ConvertConfig(images=64, precisions=()), data=DataConfig())


class Run:
    """One run of the stage on a store that outlives it; interrupted where ``stop_at`` networks are done."""

    def __init__(self, folder: Path, stop_at: float | None = None) -> None:
        self.store = Store(folder, self.emit)
        self.scratch = FolderScratch(folder / "scratch", "convert", self.emit)
        self.context = Context("convert", "0" * 64, self.store, self.scratch, self.emit)
        self.stop_at = stop_at
        self.progress: list[Progress] = []
        self.latency = latency_model(SPACE)

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress.append(event)
            if event.done == self.stop_at:
                raise RunInterruptedError("The run was stopped by SIGINT.", signal_number=2)

    def trained(self, name: str, role: Role, net: NetConfig, module: Network) -> TrainedNetwork:
        return TrainedNetwork(
            name=name,
            role=role,
            net=net,
            weights=self.store.put_bytes(save_weights(module), ".safetensors"),
            origin="fresh",
            images_seen=1,
            curve=(),
            best_epoch=0,
            validation_accuracy_percent=10.0,
            seconds=1.0,
        )

    def convert(
        self, found: TrainedNetwork, *baselines: TrainedNetwork, stage: Convert = STAGE
    ) -> ConvertedNetworks:
        return stage.run(
            self.context,
            finetuned=TrainedNetworks(networks=(found,)),
            baselines=TrainedNetworks(networks=baselines),
            latency=self.latency,
        )


def networks(run: Run) -> tuple[TrainedNetwork, TrainedNetwork]:
    torch.manual_seed(0)
    small, large = (SPACE.network([choice]) for choice in (0, 1))
    return (
        run.trained("found", "found", small, Network(small)),
        run.trained("mobilenet", "baseline", large, Network(large)),
    )


def test_a_stopped_run_goes_on_with_the_networks_that_are_left(tmp_path: Path) -> None:
    first = Run(tmp_path, stop_at=1)
    with pytest.raises(RunInterruptedError):
        first.convert(*networks(first))
    # What stands in scratch is taken as it is: mark it, to see that it is not made again.
    key = Plan(networks(first)[0]).key
    assert first.scratch.load(f"{key}.float32.tflite") is not None
    first.scratch.save(f"{key}.float32.tflite", b"made before the stop")

    second = Run(tmp_path)
    found, baseline = second.convert(*networks(second)).networks

    assert [(n.name, n.role) for n in (found, baseline)] == [("found", "found"), ("mobilenet", "baseline")]
    assert second.store.read_bytes(found.file().blob) == b"made before the stop"
    assert second.store.read_bytes(baseline.file().blob)[4:8] == b"TFL3"
    check = baseline.file().check
    assert check.operator_counts == {
        **{"CONV_2D": 4, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "MEAN": 1},
        "SOFTMAX": 1,
    }
    assert (check.images, check.top1_agreement_percent, check.delegate_partitions) == (64, 100.0, 1)
    assert check.max_abs_diff < 1e-5
    assert [(event.done, event.total, event.note) for event in second.progress] == [
        (0, 2, "found"),
        (1, 2, "mobilenet"),
        (2, 2, ""),
    ]


def test_logits_are_left_where_they_are_wanted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    found, _ = networks(run)
    files = {}
    for output in ("probabilities", "logits"):
        stage = replace(STAGE, config=ConvertConfig.model_validate({"images": 8, "output": output}))
        run.scratch = FolderScratch(tmp_path / f"scratch_{output}", "convert", run.emit)
        run.context = replace(run.context, scratch=run.scratch)
        (converted,) = run.convert(found, stage=stage).networks
        files[output] = converted.file()
        assert converted.file().output == output
        assert len(converted.file().check.edges) == 4
    counts = [files[output].check.operator_counts for output in ("logits", "probabilities")]
    assert counts[1] == {**counts[0], "SOFTMAX": 1}
    models = [run.store.read_bytes(files[output].blob) for output in ("logits", "probabilities")]
    images_NHWC = extreme_images(32, 3)
    with LocalDevice() as here:
        logits_NK, probabilities_NK = (here.run_model(model, images_NHWC) for model in models)
    np.testing.assert_allclose(probabilities_NK, probabilities_of(logits_NK), rtol=0, atol=1e-6)


def test_a_7x7_block_is_converted_as_it_was_measured_to_be_faster(tmp_path: Path) -> None:
    """Parity with PyTorch is checked by the stage itself: a model that differs would stop it."""
    run = Run(tmp_path)
    space = SPACE.model_copy(update={"candidates": (Candidate(kernel=7, expansion=2),)})
    net = space.network([0])
    block = next(block for block in net.blocks if block.kernel == 7)
    torch.manual_seed(0)
    network = run.trained("found", "found", net, Network(net))
    kinds = {}
    for way in ("native", "split"):
        run.latency = latency_model(space).model_copy(update={"implementations": {block.key: way}})
        (converted,) = run.convert(network).networks
        kinds[way] = converted.file().check.operator_counts
        assert converted.file().check.delegate_partitions == 1
    assert kinds["native"]["DEPTHWISE_CONV_2D"] == 1
    assert kinds["split"]["DEPTHWISE_CONV_2D"] == 4
    assert kinds["split"]["ADD"] - kinds["native"].get("ADD", 0) == 3


def test_a_7x7_block_of_which_nobody_knows_the_faster_way_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    net = SPACE.model_copy(update={"candidates": (Candidate(kernel=7, expansion=2),)}).network([0])
    with pytest.raises(UsageError, match="native or split"):
        run.convert(run.trained("found", "found", net, Network(net)))


def test_where_all_is_done_no_process_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    check = ConversionCheck(
        images=64,
        max_abs_diff=1e-7,
        max_relative_diff=1e-8,
        top1_agreement_percent=100.0,
        snr_db=140.0,
        edges=(),
        operators=1,
        operator_counts={"CONV_2D": 1},
        delegate_partitions=1,
    )
    found, baseline = networks(run)
    for network in (found, baseline):
        run.scratch.save(f"{Plan(network).key}.float32.tflite", network.name.encode())
        run.scratch.save(
            f"{Plan(network).key}.float32.json", KeptFile(check=check).model_dump_json().encode()
        )
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    document = run.convert(found, baseline)

    assert [run.store.read_bytes(n.file().blob) for n in document.networks] == [b"found", b"mobilenet"]
    assert [n.file().check for n in document.networks] == [check, check]


def test_equal_weights_in_another_network_are_another_model(tmp_path: Path) -> None:
    """Strides leave no trace in the weights."""
    found, _ = networks(Run(tmp_path))
    slower = SPACE.model_copy(update={"stages": (StageSpec(width=8, layers=1),)}).network([0])

    assert slower.parameters == found.net.parameters
    assert Plan(found.model_copy(update={"net": slower})).key != Plan(found).key
    assert Plan(found.model_copy(update={"name": "another"})).key == Plan(found).key


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    found, baseline = networks(run)

    with pytest.raises(IntegrityError, match="belong to another network"):
        run.convert(found.model_copy(update={"weights": baseline.weights}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_named_by_their_block(tmp_path: Path, value: float) -> None:
    run = Run(tmp_path)
    net = SPACE.network([0])
    module = Network(net)
    with torch.no_grad():
        module.blocks[1].layers[0][0].weight.flatten()[3] = value

    with pytest.raises(ConversionError, match="network found: 1 of ") as raised:
        run.convert(run.trained("found", "found", net, module))

    assert raised.value.exit_code == 6
    assert f"in block 1 ({net.blocks[1].key}) are NaN or infinite" in raised.value.message


def test_a_disk_that_is_full_in_the_midst_of_a_conversion_is_told_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images that int8 is calibrated on are written for the process that does it."""

    save = np.save

    def full(path: Path, images: NDArray[np.float32]) -> None:
        if "calibrate" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, images)

    run = Run(tmp_path)
    found, _ = networks(run)
    data = DataConfig(train_images=500, architecture_images=100, choice_images=100)
    stage = Convert(config=ConvertConfig(images=8, precisions=("int8",)), data=data)
    monkeypatch.setattr("stages.conversion.calibrate.np.save", full)
    with pytest.raises(MachineError, match="no space is left on the disk") as raised:
        run.convert(found, stage=stage)
    assert raised.value.exit_code == 8
    key = Plan(found).key
    assert run.scratch.load(f"{key}.float32.tflite") is not None, "made before, and taken the next time"
    assert run.scratch.load(f"{key}.int8.tflite") is None


def test_the_packages_that_convert_are_part_of_what_decides_the_output() -> None:
    environment = STAGE.environment()

    assert {"torch", "onnx", "onnxscript", "ai-edge-litert", "dataset"} <= set(environment)
    assert {"tensorflow", "tensorflow-cpu"} & set(environment)
