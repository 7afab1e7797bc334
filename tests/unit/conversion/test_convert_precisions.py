"""The stage makes the found network's files in other precisions, and fine-tunes what int8 costs too much."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from support.altered_models import with_scaled_kernel
from support.every_block import as_if_trained
from support.memory_context import Told, memory_context
from support.toy_search import latency_model
from torch.nn import functional
from unit.conversion.test_convert_stage import SPACE

from android_bench.device import RuntimeOptions
from nasflow.base.errors import ConversionError, UsageError
from pipeline.events import Event, Message
from pipeline.store.store import Store
from stages.conversion.config import ConvertConfig
from stages.conversion.converter import TensorflowConverter
from stages.conversion.edge_images import extreme_images
from stages.conversion.precision_files import same_but_for_noise, within
from stages.conversion.suitable import check_runs_in
from stages.convert import Convert
from stages.data.config import DataConfig, open_dataset
from stages.documents import ConvertedNetwork, ConvertedNetworks, Edge, TrainedNetwork, TrainedNetworks
from stages.nn.network import Network, load_network, save_weights
from stages.space import SpaceConfig, load_space
from stages.space.search_space import Candidate
from stages.training.recipe import TrainingConfig

DATA = DataConfig(train_images=3000, architecture_images=300, choice_images=500)
RECIPE = TrainingConfig(pretrained_rate=0.003)
NET = SPACE.network([1])
HSWISH = SPACE.model_copy(
    update={"candidates": (Candidate(kernel=3, expansion=2, activation="hswish"),)}, deep=True
)


def _ignore(_event: Event) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def trained() -> Network:
    """A network that has learned for two seconds: 60 % where chance is 10 %."""
    torch.manual_seed(0)
    network = Network(NET).train()
    optimizer = torch.optim.AdamW(network.parameters())
    batches = open_dataset(DATA).load("train").batches(64, torch.device("cpu"))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=3 * len(batches))
    for epoch in range(3):
        for x_NCHW, labels in batches.training(0, epoch):
            optimizer.zero_grad()
            functional.cross_entropy(network(x_NCHW), labels).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def spoilt(network: Network, factor: float = 100.0) -> Network:
    """The same function in float32: one channel is large before the head, whose kernels are small for it.

    In int8 all channels share their steps, and the others are left with few.
    """
    changed = load_network(network.net, save_weights(network))
    project, head = changed.blocks[-3].layers[-1], changed.blocks[-2]
    with torch.no_grad():
        project[1].weight[0] *= factor
        project[1].bias[0] *= factor
        head[0].weight[:, 0] /= factor
    return changed.eval()


def convert(
    folder: Path,
    network: Network,
    *,
    told: Told | None = None,
    precision: str = "float32",
    delegate: str = "cpu",
    **config: object,
) -> ConvertedNetworks:
    store = Store(folder, _ignore)

    def one(name: str, role: str) -> TrainedNetwork:
        return TrainedNetwork.model_validate(
            {
                "name": name,
                "role": role,
                "net": network.net.model_dump(mode="json"),
                "weights": store.put_bytes(save_weights(network), ".safetensors").model_dump(),
                "origin": "fresh",
                "images_seen": 1,
                "curve": (),
                "best_epoch": 0,
                "validation_accuracy_percent": 10.0,
                "seconds": 1.0,
            }
        )

    stage = Convert(
        config=ConvertConfig.model_validate({"images": 32, "calibration_images": 100, **config}),
        data=DATA,
        recipe=RECIPE,
        precision=precision,  # type: ignore[arg-type]
        delegate=delegate,  # type: ignore[arg-type]
    )
    return stage.run(
        memory_context("convert", store=store, told=told),
        finetuned=TrainedNetworks(networks=(one("found", "found"),)),
        baselines=TrainedNetworks(networks=(one("mobilenet", "baseline"),)),
        latency=latency_model(SPACE if network.net == NET else HSWISH),
    )


def texts(told: Told) -> list[str]:
    return [event.text for event in told.events if isinstance(event, Message)]


def of(network: ConvertedNetwork) -> list[str]:
    return [file.precision for file in network.files]


def test_what_may_ship_is_made_in_each_precision_and_the_rest_in_the_one_that_is_compared(
    tmp_path: Path, trained: Network
) -> None:
    found, baseline = convert(tmp_path, trained, precisions=("int8", "float16")).networks
    assert (of(found), of(baseline)) == (["float32", "float16", "int8"], ["float32"])
    plain, half, int8 = found.files
    assert (plain.input_type, half.input_type, int8.input_type) == ("float32", "float32", "uint8")
    assert plain.quantization is None
    assert int8.quantization is not None
    assert int8.quantization.calibration_images == 100
    assert int8.quantization.images == 500
    assert int8.quantization.float32_accuracy_percent > 40
    assert abs(int8.quantization.points_lost) < 3
    assert int8.check.snr_db > 15
    assert half.check.snr_db > 40
    for file, least_db in ((half, 40), (int8, 10)):
        (edge,) = file.check.edges
        assert (edge.edge, edge.images) == ("tflite_precision", 8)
        assert edge.snr_db > least_db
    assert int8.blob.size_bytes < plain.blob.size_bytes


def test_a_search_in_int8_has_every_network_in_int8(tmp_path: Path, trained: Network) -> None:
    found, baseline = convert(tmp_path, trained, precisions=(), precision="int8").networks
    assert of(found) == of(baseline) == ["float32", "int8"]


def test_int8_takes_floats_where_that_is_wanted(tmp_path: Path, trained: Network) -> None:
    found, _ = convert(tmp_path, trained, precisions=("int8",), input_type="float32").networks
    assert found.file("int8").input_type == "float32"
    assert found.file("int8").check.operator_counts["QUANTIZE"] == 1


def test_what_int8_costs_too_much_is_fine_tuned_and_the_better_file_kept(
    tmp_path: Path, trained: Network
) -> None:
    told = Told()
    found, _ = convert(
        tmp_path, spoilt(trained), told=told, precisions=("int8",), min_int8_top1_percent=50
    ).networks
    file = found.file("int8").quantization
    assert file is not None
    assert file.fine_tuned
    assert file.other_accuracy_percent is not None
    assert file.float32_accuracy_percent - file.other_accuracy_percent > 10, "int8 as it was costs much"
    assert file.accuracy_percent > file.other_accuracy_percent + 10
    assert file.weights is not None
    assert file.tuned_check is not None
    assert [edge.edge for edge in file.tuned_check.edges] == list(get_args(Edge))
    assert any("fine-tuning in the steps of int8" in text for text in texts(told))


def test_without_epochs_nothing_is_fine_tuned(tmp_path: Path, trained: Network) -> None:
    settings = {"precisions": ("int8",), "int8_epochs": 0, "min_int8_top1_percent": 0, "min_int8_snr_db": -50}
    told = Told()
    found, _ = convert(tmp_path, spoilt(trained), told=told, **settings).networks
    file = found.file("int8").quantization
    assert file is not None
    assert (file.fine_tuned, file.other_accuracy_percent) == (False, None)
    assert any("int8 costs" in text and "after fine-tuning" not in text for text in told.warnings)


def test_answers_too_far_from_float32_end_the_run_with_both_figures_and_the_block(
    tmp_path: Path, trained: Network
) -> None:
    said = (
        r"found in int8 does not answer .* dB on 8 real and extreme images \(needed 90\).* is block 0 \(stem"
    )
    with pytest.raises(ConversionError, match=said) as raised:
        convert(tmp_path, trained, precisions=("int8",), min_int8_snr_db=90)
    assert raised.value.exit_code == 6
    assert "convert.min_int8_snr_db" in raised.value.hint


def test_the_block_that_int8_spoils_is_named(tmp_path: Path, trained: Network) -> None:
    """Its kernels are small for one channel, beside whose values all others are few steps."""
    with pytest.raises(ConversionError, match="The first block whose output is below that is ") as raised:
        convert(tmp_path, spoilt(trained, 1000), precisions=("int8",), int8_epochs=0, min_int8_snr_db=15)
    head = len(NET.blocks) - 2
    assert f"is block {head} ({NET.blocks[head].key}), with" in raised.value.message


def test_what_differs_on_extreme_images_alone_is_refused(
    tmp_path: Path, trained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges that hold for real images, where the others reach further."""
    monkeypatch.setattr("stages.conversion.precision_files.edge_images", lambda _: extreme_images(32, 3)[3:])
    found, _ = convert(tmp_path / "a", trained, precisions=("int8",)).networks
    check = found.file("int8").check
    (edge,) = check.edges
    assert (edge.edge, edge.images) == ("tflite_precision", 2)
    between = (edge.snr_db + check.snr_db) / 2
    assert edge.snr_db < between < check.snr_db
    with pytest.raises(ConversionError, match=rf"{edge.snr_db:.1f} dB on 2 real and extreme"):
        convert(tmp_path / "b", trained, precisions=("int8",), min_int8_snr_db=between)


def test_a_tuned_network_that_is_converted_wrongly_ends_the_run_with_the_edge(
    tmp_path: Path, trained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file would be more accurate than nothing, and of a network that nobody has."""
    converts = TensorflowConverter.convert

    def wrong(self: TensorflowConverter, onnx_model: bytes, *, name: str, **ways: Any) -> bytes:
        model = converts(self, onnx_model, name=name, **ways)
        return with_scaled_kernel(model, 0) if "fine-tuned" in name else model

    monkeypatch.setattr(TensorflowConverter, "convert", wrong)
    words = "network found, fine-tuned for int8: the conversion breaks between TensorFlow and TFLite"
    with pytest.raises(ConversionError, match=words) as raised:
        convert(tmp_path, spoilt(trained), precisions=("int8",), min_int8_top1_percent=50)
    assert raised.value.exit_code == 6


def untrained() -> Network:
    torch.manual_seed(0)
    return as_if_trained(Network(HSWISH.network([0])))


def test_an_int8_file_that_would_fall_apart_is_left_out_and_the_others_are_made(tmp_path: Path) -> None:
    """By default settings: ``int8`` is among ``convert.precisions``."""
    told, default = Told(), ConvertConfig().precisions
    assert "int8" in default
    found, _ = convert(tmp_path, untrained(), told=told, precisions=default).networks
    assert of(found) == ["float32", "float16"]
    (left_out,) = found.left_out
    assert (left_out.precision, "XNNPACK does not take over" in left_out.reason) == ("int8", True)
    assert f"found: no int8 file is made: {left_out.reason}." in told.warnings


@pytest.mark.parametrize("settings", [{"delegate": "gpu"}, {"require_one_partition": False}])
def test_h_swish_is_in_int8_where_xnnpack_decides_nothing_or_it_may_fall_apart(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    loose = {"min_int8_snr_db": -50, "min_int8_top1_percent": 0, "int8_epochs": 0}
    found, _ = convert(tmp_path, untrained(), precisions=("int8",), **loose, **settings).networks
    assert (of(found), found.left_out) == (["float32", "int8"], ())
    assert (found.file("int8").check.delegate_partitions == 1) is ("delegate" in settings)


def test_the_ratio_is_that_of_the_logits_whatever_the_file_answers(trained: Network, tmp_path: Path) -> None:
    """A softmax hides what happens to all classes but the first few."""
    settings = {"precisions": ("float16", "int8"), "int8_epochs": 0}
    files = {
        output: convert(tmp_path / output, trained, output=output, **settings).networks[0]
        for output in ("probabilities", "logits")
    }
    for precision in ("float16", "int8"):
        one, other = (network.file(precision) for network in files.values())  # type: ignore[arg-type]
        assert "SOFTMAX" in one.check.operator_counts
        assert "SOFTMAX" not in other.check.operator_counts
        assert one.check.snr_db == pytest.approx(other.check.snr_db, abs=0.01)
        assert one.check.edges[0].snr_db == pytest.approx(other.check.edges[0].snr_db, abs=0.01)
        assert one.check.top1_agreement_percent == other.check.top1_agreement_percent
        assert one.quantization == other.quantization


def test_dynamic_range_is_made_with_a_warning(tmp_path: Path, trained: Network) -> None:
    told = Told()
    found, _ = convert(tmp_path, trained, told=told, precisions=("dynamic_range",)).networks
    assert found.file("dynamic_range").check.delegate_partitions > 1
    assert any("slower in dynamic_range" in text for text in told.warnings)


def test_a_space_with_h_swish_is_refused_in_int8_unless_it_may_fall_apart() -> None:
    space = load_space(SpaceConfig(name="mobile_v3"))
    int8, half = (RuntimeOptions.model_validate({"precision": p}) for p in ("int8", "float16"))
    with pytest.raises(UsageError, match="does not take over h-swish in int8") as raised:
        check_runs_in(space, int8, one_partition=True)
    assert "convert.require_one_partition: false" in raised.value.hint
    check_runs_in(space, int8, one_partition=False)
    check_runs_in(space, half, one_partition=True)
    check_runs_in(space, int8.model_copy(update={"delegate": "gpu"}), one_partition=True)
    check_runs_in(load_space(SpaceConfig(name="proxyless_mobile")), int8, one_partition=True)


def test_what_lies_beyond_the_reach_of_real_images_is_cut_and_that_is_no_fault() -> None:
    """White and noise ask for logits of 40; int8 holds up to 3.1, as real images ask for no more."""
    beyond_NK = np.array([[40.0, -9.0, 1.0]], dtype=np.float32)
    held_NK = np.array([[3.1, -2.0, 1.0]], dtype=np.float32)
    reach = (-2.0, 3.0)
    assert np.array_equal(within(reach, beyond_NK), within(reach, held_NK))
    wrong_NK = np.array([[-2.0, 3.1, 1.0]], dtype=np.float32)
    assert np.abs(within(reach, beyond_NK) - within(reach, wrong_NK)).max() == 5.0
    assert within(None, beyond_NK) is beyond_NK


def test_a_class_that_is_held_for_as_likely_is_the_same_but_a_wrong_one_is_not() -> None:
    generator = np.random.default_rng(0)
    undecided_NK = (0.1 + generator.normal(0, 1e-4, (200, 10))).astype(np.float32)
    noisy_NK = (undecided_NK + generator.normal(0, 1e-3, (200, 10))).astype(np.float32)
    assert (noisy_NK.argmax(1) == undecided_NK.argmax(1)).mean() < 0.5
    assert same_but_for_noise(undecided_NK, noisy_NK).mean() > 0.95
    sure_NK = np.eye(10, dtype=np.float32)[generator.integers(0, 10, 200)]
    turned_NK = sure_NK.copy()
    turned_NK[:50] = np.roll(sure_NK[:50], 1, axis=1)
    assert same_but_for_noise(sure_NK, turned_NK).mean() == 0.75
