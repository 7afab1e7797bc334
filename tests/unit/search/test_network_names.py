"""A network's name has one length, however many layers it has: files, logs and columns hold it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_context import MemoryStore, memory_context
from support.scripted_device import ScriptedDevice
from support.toy_search import latency_model

from android_bench.device import RuntimeOptions
from pipeline.stage import Context
from pipeline.store.scratch import FolderScratch
from stages.data.config import DataConfig
from stages.documents import PrunedNetworks, SearchResult
from stages.measurement.config import MeasurementConfig
from stages.measurement.rounds import measure_rounds
from stages.measurement.work import Work
from stages.nas.config import PruneConfig
from stages.nas.targets import TargetConfig
from stages.nn.network import save_weights
from stages.nn.supernet import Supernet
from stages.prune import Prune
from stages.reporting.figures.architecture import architecture_figure
from stages.reporting.figures.layers import layers_figure
from stages.reporting.figures.search import probabilities_figure
from stages.space.network_name import network_name
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

ROOT = Path(__file__).parents[3]
NAME = re.compile(r"[a-z]+_[0-9a-f]{16}")
K3E1 = Candidate(kernel=3, expansion=1)


def deep_space(layers: int) -> SearchSpace:
    """``layers`` that are searched (k3 e1 or skip) behind a fixed one: in stages of 100 at most."""
    runs = [min(100, layers - first) for first in range(0, layers, 100)]
    searched = [StageSpec(width=8, layers=count, stride=1) for count in runs]
    return SearchSpace(
        name="deep",
        resolution=8,
        classes=10,
        stem=StemSpec(width=8, stride=2),
        stages=(StageSpec(width=8, layers=1, stride=2, fixed=K3E1), *searched),
        head_width=16,
        candidates=(K3E1,),
    )


def kept_as_a_checkpoint(path: tuple[int, ...], space: SearchSpace, folder: Path) -> None:
    scratch = FolderScratch(folder, "prune", lambda _: None)
    scratch.save(f"{network_name(path)}.checkpoint", b"weights")
    assert scratch.load(f"{network_name(path)}.checkpoint") == b"weights"


def kept_as_a_log(path: tuple[int, ...], space: SearchSpace, folder: Path) -> None:
    scratch = FolderScratch(folder, "prune", lambda _: None)
    scratch.append(network_name(path), {"loss": 1.0})
    assert scratch.rows(network_name(path)) == [{"loss": 1.0}]


def timed(path: tuple[int, ...], space: SearchSpace, folder: Path) -> None:
    """As ``latency`` and ``prune`` do it."""
    name = network_name(path)
    context = Context("prune", "", MemoryStore(), FolderScratch(folder, "prune", lambda _: None), print)
    config = MeasurementConfig(rounds=3, extra_rounds=0)
    context = memory_context("prune", scratch=context.scratch)  # type: ignore[arg-type]
    measured = measure_rounds(
        context, ScriptedDevice({name: 1.0}), Work({name: b""}), config, RuntimeOptions(), 0
    )
    assert {timing.name for timing in measured.timings} == {name}


def drawn(path: tuple[int, ...], space: SearchSpace, folder: Path) -> None:
    """Labels of figures name layers and blocks, and never a path."""
    latency = latency_model(space)
    search = searched(space, MemoryStore(), weights=False)
    for markup in (
        architecture_figure(space.network(path), space, latency, width=400),
        layers_figure(space, latency, path, width=400),
        probabilities_figure(search, path, width=400),
    ):
        labels = re.findall(r"<text[^>]*>([^<]*)</text>", markup)
        assert labels and max(map(len, labels)) <= 60


PLACES: list[Callable[[tuple[int, ...], SearchSpace, Path], None]] = [
    kept_as_a_checkpoint,
    kept_as_a_log,
    timed,
    drawn,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layers", [1, 2, 43, 44, 100, 101, 200])
def test_every_place_that_names_a_network_has_room_for_it(
    place: Callable[[tuple[int, ...], SearchSpace, Path], None], layers: int, tmp_path: Path
) -> None:
    space = deep_space(layers)
    place((0,) * (layers + 1), space, tmp_path / "one")
    place((0, *(n % 2 for n in range(layers))), space, tmp_path / "other")


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), st.lists(st.integers(0, 20), max_size=200))
@settings(max_examples=200)
def test_names_are_of_one_length_and_differ_where_the_networks_do(one: list[int], other: list[int]) -> None:
    assert NAME.fullmatch(network_name(one)) and len(network_name(one)) == len("network_") + 16
    assert network_name(one) == network_name(tuple(one))
    assert (network_name(one) == network_name(other)) == (one == other)


def test_a_choice_of_two_digits_is_not_two_choices() -> None:
    assert len({network_name(path) for path in ([1, 11], [11, 1], [1, 1, 1], [111])}) == 4


def test_no_other_place_spells_a_path_as_a_name() -> None:
    """Whoever names something after a network uses ``network_name``."""
    spelling = re.compile(r"""["'][-_]["']\.join\(\s*(?:map\(str|str\(\w+\) for)""")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("stages", "benchmarks", "nasflow", "pipeline", "android_bench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if spelling.search(line)
    ]
    assert found == []


def searched(space: SearchSpace, store: MemoryStore, *, weights: bool = True) -> SearchResult:
    torch.manual_seed(0)
    supernet = save_weights(Supernet(space)) if weights else b""
    return SearchResult(
        space=space,
        target_ms=latency_model(space).feasible_ms[1],
        log_probabilities=tuple((-0.1, -2.3)[: len(layer.blocks)] for layer in space.layers()),
        estimator="window",
        expected_ms=1.0,
        supernet=store.put_bytes(supernet, ".safetensors"),
        history=(),
        seconds=0.0,
    )


def test_a_network_of_43_layers_is_measured_and_kept(tmp_path: Path) -> None:
    """Forty-three layers and more ended with an unforeseen error behind the search."""
    space = deep_space(42)
    latency, store = latency_model(space), MemoryStore()
    device = SlowerByDepth(space)
    stage = Prune(
        config=PruneConfig(
            candidates=1,
            recalibration_batches=1,
            rounds=3,
            random_networks=0,
        ),
        target=TargetConfig(),
        space=space,
        data=DataConfig(train_images=100, architecture_images=100),
        runtime=RuntimeOptions(),
        seed=1,
        device=device,
    )
    scratch = FolderScratch(tmp_path / "scratch", "prune", lambda _: None)
    context = Context("prune", "0" * 64, store, scratch, lambda _: None)
    outcome = stage.run(context, search=searched(space, store), latency=latency)
    assert PrunedNetworks.model_validate_json(outcome.model_dump_json()) == outcome
    assert len(outcome.found.choices) == 43
    assert all(NAME.fullmatch(name) for name in set(device.order) - {latency.reference.name})


class SlowerByDepth(ScriptedDevice):
    """Every network takes as long as the fastest: none is above a target."""

    def __init__(self, space: SearchSpace) -> None:
        latency = latency_model(space)
        super().__init__(_Every(latency.feasible_ms[0], {latency.reference.name: 0.2}), noise=0.0)


class _Every(dict[str, float]):
    def __init__(self, ms: float, named: dict[str, float]) -> None:
        super().__init__(named)
        self.ms = ms

    def __missing__(self, name: str) -> float:
        return self.ms
