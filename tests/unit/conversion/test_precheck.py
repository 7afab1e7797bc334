"""Before anything is trained: what is not converted as it was measured is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.memory_context import MemoryScratch, Told, memory_context
from support.simulated_device import SimulatedDevice
from support.toy_search import latency_model

from android_bench.device import BenchmarkRequest, Conditions, LatencyMeasurement, RuntimeOptions
from android_bench.local.device import LocalDevice
from nasflow.assemble import build_stages
from nasflow.base.errors import ConversionError
from nasflow.config import PipelineConfig
from stages.conversion.config import ConvertConfig
from stages.conversion.converter import TensorflowConverter
from stages.conversion.covering import block_kinds, covering_networks
from stages.conversion.flatbuffer import network_model
from stages.conversion.trial import Tried, try_network
from stages.documents import LatencyModel
from stages.precheck import TOGETHER, PrecheckConfig, PrecheckStage
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import Implementation
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

THIN = SearchSpace(
    name="thin",
    resolution=16,
    classes=3,
    stem=StemSpec(width=1, stride=1),
    stages=(
        StageSpec(width=8, layers=1, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=8, layers=2, stride=2),
    ),
    head_width=8,
    candidates=(
        Candidate(kernel=7, expansion=2),
        Candidate(kernel=3, expansion=2, squeeze_excite=True, activation="hswish"),
        Candidate(kind="fused", kernel=3, expansion=1),
    ),
)


def split(space: SearchSpace) -> dict[str, Implementation]:
    return {block.key: "split" for block in space.distinct_blocks() if len(block.implementations) > 1}


def model_of(space: SearchSpace) -> LatencyModel:
    return latency_model(space).model_copy(update={"implementations": split(space)})


@pytest.mark.parametrize("space", [THIN, *(load_space(SpaceConfig(name=name)) for name in shipped_spaces())])
def test_few_networks_hold_every_kind_of_block(space: SearchSpace) -> None:
    ways = split(space)
    networks = covering_networks(space, ways)
    assert len(networks) <= 4
    held = set()
    for choices, _ in networks:
        for block in space.network(choices).blocks:
            held |= block_kinds(block, ways.get(block.key, "native"))
    for block in space.distinct_blocks():
        assert block_kinds(block, ways.get(block.key, "native")) <= held
    first = [block for _, blocks in networks for block in blocks]
    assert set(first) <= set(space.distinct_blocks())
    assert len(set(first)) == len(first)


def tried(
    space: SearchSpace,
    converter: TensorflowConverter | Forgetful,
    here: LocalDevice,
    way: Implementation = "split",
    networks: Sequence[tuple[int, ...]] = (),
) -> list[Tried]:
    ways = dict.fromkeys(split(space), way)
    return [
        try_network(
            space.network(choices),
            ways,
            converter,
            here,
            name="untrained",
            max_relative_diff=1e-3,
            one_partition=True,
        )
        for choices in networks or [choices for choices, _ in covering_networks(space, ways)]
    ]


@dataclass(frozen=True)
class Forgetful:
    """The converter as it was: it takes a depthwise convolution of one channel for a full one."""

    inside: TensorflowConverter

    def convert(
        self, onnx_model: bytes, *, name: str, depthwise: Sequence[str] = (), split: Sequence[int] = ()
    ) -> bytes:
        return self.inside.convert(onnx_model, name=name, split=split)


def test_whatever_is_converted_as_it_was_measured_passes(
    converter: TensorflowConverter, here: LocalDevice
) -> None:
    for one in tried(THIN, converter, here):
        assert one.max_relative_diff < 1e-5
        assert one.graph.delegate_partitions == 1


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("native", "CONV_2D 3x3 to 1x16x16x1 with RELU6 in place of DEPTHWISE_CONV_2D 3x3 to 1x16x16x1"),
        ("split", "depthwise convolution 2 is to be split; there are 2"),
    ],
)
def test_what_is_converted_to_other_operators_is_named(
    way: Implementation, words: str, converter: TensorflowConverter, here: LocalDevice
) -> None:
    with pytest.raises(ConversionError) as caught:
        tried(THIN, Forgetful(converter), here, way, [(0, 0, 0)])
    message = caught.value.message
    assert caught.value.exit_code == 6
    assert words in message
    assert "The block concerned is mbconv_k3_e1_s1_1-8_r16." in message


def stage(device: SimulatedDevice, **config: float) -> PrecheckStage:
    return PrecheckStage(
        config=PrecheckConfig.model_validate(config),
        convert=ConvertConfig(),
        space=THIN,
        runtime=RuntimeOptions(),
        seed=0,
        device=device,
    )


@dataclass
class SlowForTensorflow(SimulatedDevice):
    """Takes longer for what came out of TensorFlow, whatever it is made of."""

    factor: float = 1.0

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        measured = super().benchmark(request)
        return measured.divided(1 / self.factor) if request.name.endswith("_converted") else measured


def test_the_stage_keeps_what_it_converted_and_refuses_a_model_that_takes_longer(tmp_path: Path) -> None:
    """One run converts; the next ones find it done, so that TensorFlow starts once here."""
    scratch, told = MemoryScratch(), Told()
    context = memory_context("precheck", scratch=scratch, told=told)
    document = stage(SlowForTensorflow(noise=0.01)).run(context, latency=model_of(THIN))
    assert [network.delegate_partitions for network in document.networks] == [1] * len(document.networks)
    assert all(0.9 < network.ratio < 1.1 for network in document.networks)
    assert sum(len(network.first_of_kind) for network in document.networks) >= 3 + 1 + 2 * 3
    assert not told.warnings

    made = dict(scratch.entries)
    scratch.logs.clear()
    slow = SlowForTensorflow(noise=0.01, factor=5.0)
    with pytest.raises(ConversionError, match=r"once converted, takes [45]\.[0-9]+ times as long") as caught:
        stage(slow).run(context, latency=model_of(THIN))
    assert scratch.entries == made
    assert "Simulated Phone" in caught.value.message
    assert "precheck.max_ratio" in caught.value.hint
    # The rounds are kept, too: a limit that allows it needs no further timing.
    again = replace(slow, order=[])
    assert stage(again, max_ratio=9.0).run(context, latency=model_of(THIN)).networks[0].ratio > 4
    assert again.order == []


def many(kernels: Sequence[int] = (1, 3, 5, 7, 9, 11)) -> SearchSpace:
    """A space of many combinations and few layers."""
    candidates = tuple(
        Candidate(kernel=kernel, expansion=expansion, activation=activation)
        for kernel in kernels
        for expansion in (1, 2, 3, 4, 6, 8)
        for activation in ("relu6", "hswish")
    )
    return THIN.model_copy(update={"candidates": candidates})


def test_combinations_of_what_is_converted_alike_need_no_network_each() -> None:
    assert len(many().candidates) == 72
    assert len(covering_networks(many(), {})) == 12


def test_every_network_that_is_tried_counts_in_the_estimates() -> None:
    few, more = (
        replace(stage(SimulatedDevice()), space=many(kernels=k)) for k in ((3,), (1, 3, 5, 7, 9, 11))
    )
    number = [len(covering_networks(one.space, {})) for one in (few, more)]
    config, overhead = few.config, few.device.overhead
    for one, n in zip((few, more), number, strict=True):
        lists = -(-n // TOGETHER)
        timings = 2 * n + 2 * lists  # two of each, and the anchor's beside some
        timing_ms = config.warmup_ms + config.min_ms + overhead.timing_ms
        expected_ms = config.rounds * (timings * timing_ms + lists * overhead.process_ms)
        assert one.device_seconds()[0] == pytest.approx(expected_ms / 1000)
    assert more.estimate_seconds() - few.estimate_seconds() > 2 * (number[1] - number[0])
    deep = THIN.model_copy(update={"stages": (StageSpec(width=8, layers=100),)})
    shallow = THIN.model_copy(update={"stages": (StageSpec(width=8, layers=10),)})
    assert replace(few, space=deep).estimate_seconds() > replace(few, space=shallow).estimate_seconds() + 10


@dataclass
class Counted(SimulatedDevice):
    """Remembers how many models it was given at once."""

    at_once: int = 0

    def benchmark_many(
        self, requests: Sequence[BenchmarkRequest]
    ) -> Iterator[tuple[int, LatencyMeasurement]]:
        self.at_once = max(self.at_once, len(requests))
        return super().benchmark_many(requests)


def test_a_few_networks_at_a_time_are_timed_and_the_first_bad_ones_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Conversion itself is looked at above: here each network was converted by an interrupted run."""
    space = many()
    scratch = MemoryScratch()
    networks = covering_networks(space, split(space))
    for number, (choices, _) in enumerate(networks, start=1):
        model = network_model(space.network(choices), implementations=split(space))
        for part in ("converted", "written"):
            scratch.save(f"untrained_{number}.{part}", model)
        scratch.save(
            f"untrained_{number}.json",
            b'{"operators": 1, "delegate_partitions": 1, "max_relative_diff": 0.0}',
        )
    context = memory_context("precheck", scratch=scratch)
    device = Counted(noise=0.01)
    document = replace(stage(device), space=space).run(context, latency=model_of(space))
    assert len(document.networks) == len(networks) > 2 * TOGETHER
    assert device.at_once == 2 * TOGETHER + 2, "and the anchor, first and last"
    assert document.seconds >= 0
    scratch.logs.clear()
    slow = SlowForTensorflow(noise=0.01, factor=5.0)
    with pytest.raises(ConversionError, match="once converted, takes"):
        replace(stage(slow), space=space).run(context, latency=model_of(space))
    assert len(scratch.logs) == 1, "the rounds of the first few networks"


@dataclass
class Throttled(SimulatedDevice):
    """Says so in the second round, and takes four times as long for what came out of TensorFlow."""

    of_a_round: int = 4

    @property
    def hot(self) -> bool:
        return (len(self.order) - 1) // self.of_a_round == 1

    def conditions(self) -> Conditions:
        throttled_by = ("heat",) if self.hot else ()
        return super().conditions().model_copy(update={"throttled_by": throttled_by})

    def true_ms(self, model: bytes) -> float:
        return super().true_ms(model) * (4.0 if self.hot and self.order[-1].endswith("converted") else 1.0)


def test_a_round_in_which_the_device_was_throttled_does_not_count() -> None:
    scratch, ways = MemoryScratch(), split(THIN)
    networks = covering_networks(THIN, ways)
    assert len(networks) <= TOGETHER
    for number, (choices, _) in enumerate(networks, start=1):
        for part in ("converted", "written"):
            model = network_model(THIN.network(choices), implementations=ways)
            scratch.save(f"untrained_{number}.{part}", model)
        scratch.save(
            f"untrained_{number}.json",
            b'{"operators": 1, "delegate_partitions": 1, "max_relative_diff": 0.0}',
        )
    device = Throttled(noise=0.002, of_a_round=2 * len(networks) + 2)
    found = stage(device, rounds=3).run(memory_context("precheck", scratch=scratch), latency=model_of(THIN))
    assert len(device.order) == 4 * device.of_a_round, "one more round than asked for"
    for network in found.networks:
        assert network.converted.rounds == 3
        assert network.ratio_interval_95[1] < 1.05


def test_it_comes_before_any_training_and_makes_none_of_it_stale(tmp_path: Path) -> None:
    stages = {s.name: s for s in build_stages(PipelineConfig(), tmp_path, SimulatedDevice())}
    names = list(stages)
    assert names.index("latency") < names.index("precheck") < names.index("search")
    assert stages["search"].after == ("precheck",)
    assert "precheck" not in [source for s in stages.values() for source in s.inputs.values()]
    assert {"torch", "ai-edge-litert"} <= set(stages["precheck"].environment())
    assert stages["precheck"].settings()["convert"].keys() == {
        *("output", "max_relative_diff", "require_one_partition")
    }
