"""Networks that are measured a little above their target: timed again, told, and a target that holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.scripted_device import ScriptedDevice
from support.toy_search import DATA, SPACE, latency_model, measured, prune_sections, toy_device

from android_bench.device import BenchmarkRequest, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import DeviceError, InconclusiveError, InfeasibleTargetError
from pipeline.events import Message
from stages.documents import LatencyModel, PrunedNetworks, SearchResult
from stages.measurement.rounds import Measured
from stages.nas.candidate_times import PASSES, CandidateTimes, Timed, pooled, target_that_holds_ms
from stages.nn.network import save_weights
from stages.nn.supernet import Supernet
from stages.prune import Prune
from stages.space.network_name import network_name

LATENCY = latency_model()
PATHS = list(product(*(range(len(layer.blocks)) for layer in SPACE.layers())))
PREDICTED = sorted({round(LATENCY.predict_ms(SPACE.network(path)), 12) for path in PATHS})
USED = 0.99
ROUNDS = 8
SCATTER = (-1.4, 0.6, -0.6, 1.4)  # of timings around their median, in units of the noise


def lonely_target_ms() -> float:
    """A target that one network may use, and none a target that is lower by a prediction's interval."""
    for ms in PREDICTED[1:]:
        target_ms = 1.0001 * ms
        careful_ms = target_ms / 1.03
        if not any(USED * careful_ms <= other <= careful_ms for other in PREDICTED):
            return target_ms
    raise AssertionError("the toy space has no such target")


TARGET_MS = lonely_target_ms()


@dataclass
class Edge(ScriptedDevice):
    """A device whose n-th timing of a network takes ``slower(n)`` times what is predicted, and scatters."""

    slower: Callable[[int], float] = lambda n: 1.0
    timings: Counter[str] = field(default_factory=Counter)

    def benchmark(self, request: BenchmarkRequest) -> LatencyMeasurement:
        if len(self.order) == self.unplug_at:
            raise DeviceError("Scripted Phone was unplugged.")
        self.order.append(request.name)
        ms = self.true_ms[request.name]
        if request.name != LATENCY.reference.name:
            number = self.timings[request.name]
            ms *= self.slower(number) * (1 + SCATTER[number % len(SCATTER)] * self.noise)
            self.timings[request.name] += 1
        return measured(ms)


def edge(slower: Callable[[int], float], *, noise: float, unplug_at: int | None = None) -> Edge:
    return Edge(toy_device().true_ms, noise=noise, slower=slower, unplug_at=unplug_at)


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def searched(store: MemoryStore) -> SearchResult:
    torch.manual_seed(0)
    return SearchResult(
        space=SPACE,
        target_ms=TARGET_MS,
        log_probabilities=tuple((-0.5, -0.6, -0.7)[: len(layer.blocks)] for layer in SPACE.layers()),
        estimator="window",
        expected_ms=TARGET_MS,
        supernet=store.put_bytes(save_weights(Supernet(SPACE)), ".safetensors"),
        history=(),
        seconds=0.0,
    )


@dataclass
class Picked:
    """A pick of the stage, or how it ended."""

    searched: SearchResult
    store: MemoryStore
    told: Told = field(default_factory=Told)
    scratch: MemoryScratch = field(default_factory=MemoryScratch)

    def run(
        self,
        device: ScriptedDevice,
        *,
        latency: LatencyModel = LATENCY,
        **settings: Any,
    ) -> PrunedNetworks:
        usual = {
            "minimum_share": USED,
            "random_networks": 0,
            "recalibration_batches": 1,
            "interval_percent": 20.0,
            "rounds": ROUNDS,
        }
        config, target = prune_sections(usual | settings)
        stage = Prune(
            config=config,
            target=target,
            space=SPACE,
            data=DATA,
            runtime=RuntimeOptions(),
            seed=1,
            device=device,
        )
        context = memory_context("prune", store=self.store, scratch=self.scratch, told=self.told)
        return stage.run(context, search=self.searched, latency=latency)

    @property
    def said(self) -> list[str]:
        return [e.text for e in self.told.events if isinstance(e, Message) and "timed again" in e.text]


@pytest.fixture
def picked(searched: SearchResult, store: MemoryStore) -> Picked:
    return Picked(searched, store)


def test_networks_at_the_edge_are_timed_again_and_kept_where_they_hold(picked: Picked) -> None:
    """As on a machine that was busy at first; the anchor did not show it."""
    device = edge(lambda n: 1.007 if n < ROUNDS else 0.99, noise=0.01)
    outcome = picked.run(device)
    (considered,) = [c for c in outcome.considered if c.choices == outcome.found.choices]
    assert considered.measurement.median_ms <= TARGET_MS
    assert max(device.timings.values()) == considered.measurement.rounds == 2 * ROUNDS
    assert len(considered.measurement.round_medians_ms) == 2 * ROUNDS
    assert len(picked.said) == 1 and "(1 of at most 2 times)" in picked.said[0]


def test_where_the_interval_holds_the_target_it_is_inconclusive_and_the_passes_are_bounded(
    picked: Picked,
) -> None:
    device = edge(lambda n: 1.006, noise=0.02)
    with pytest.raises(
        InconclusiveError, match=r"cannot be determined: measured 3 times, the fastest takes"
    ) as caught:
        picked.run(device)
    assert caught.value.exit_code == 3
    assert set(device.timings.values()) == {(1 + PASSES) * ROUNDS}
    assert len(picked.said) == PASSES
    assert "nasflow run --force prune." in caught.value.hint
    assert "--force profile" not in caught.value.hint


def test_an_offered_target_is_said_to_belong_into_the_configuration(picked: Picked) -> None:
    with pytest.raises(InconclusiveError, match="cannot be determined") as caught:
        picked.run(edge(lambda n: 1.006, noise=0.02))
    assert re.search(r"put target\.pick_ms: [\d.]+ into the configuration", caught.value.hint)


def test_an_interval_is_that_of_the_network_that_it_is_told_of() -> None:
    """The fastest network is surely above the target; the next one scatters, and may keep it."""
    reference = LATENCY.reference.name
    rows = {PATHS[0]: (1.01, 1.01, 1.01), PATHS[1]: (0.9, 1.02, 1.14)}
    by_name = {
        network_name(path): measured(rounds_ms[1]).model_copy(
            update={"round_medians_ms": rounds_ms, "rounds": 3}
        )
        for path, rounds_ms in rows.items()
    }
    times = CandidateTimes(SPACE, LATENCY, Measured({**by_name, reference: measured(0.2)}, (), 1.0))
    error = times.no_network(list(rows), 1.0, "a phone")
    assert isinstance(error, InconclusiveError)
    said = "the fastest takes 1.01 ms (95 % interval 1.01 to 1.01 ms), and another one 1.02 ms"
    assert said in error.message
    assert times.timed(PATHS[1]).low_ms < 1.0


@pytest.mark.parametrize(
    ("slower", "noise", "error"), [(1.006, 0.02, InconclusiveError), (1.004, 0.0, InfeasibleTargetError)]
)
def test_the_target_that_is_offered_holds_with_the_same_search(
    picked: Picked, slower: float, noise: float, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        picked.run(edge(lambda n: slower, noise=noise))
    offered = re.search(r"nasflow run --set target\.pick_ms=([\d.e-]+)\.", getattr(caught.value, "hint", ""))
    assert offered is not None
    offered_ms = float(offered[1])
    assert TARGET_MS < offered_ms <= 1.04 * TARGET_MS
    again = Picked(picked.searched, picked.store)
    outcome = again.run(edge(lambda n: slower, noise=noise), pick_ms=offered_ms)
    assert outcome.target_ms == outcome.found.target_ms == offered_ms
    (considered,) = [c for c in outcome.considered if c.choices == outcome.found.choices]
    assert considered.measurement.median_ms <= offered_ms


def test_networks_that_are_surely_above_the_target_are_not_timed_again(picked: Picked) -> None:
    device = edge(lambda n: 1.004, noise=0.0)
    with pytest.raises(InfeasibleTargetError, match="the latency model does not hold") as caught:
        picked.run(device)
    assert caught.value.exit_code == 2
    assert set(device.timings.values()) == {ROUNDS} and picked.said == []
    assert "nasflow run --force profile" in caught.value.hint


def test_no_target_is_offered_where_no_prediction_holds(picked: Picked) -> None:
    with pytest.raises(InfeasibleTargetError) as caught:
        picked.run(edge(lambda n: 1.2, noise=0.0))
    assert "target.pick_ms" not in caught.value.hint


def test_networks_at_the_edge_are_timed_again_only_if_no_more_probable_one_keeps_the_target() -> None:
    at_the_edge, surely_above, keeps = (0.98, 1.01, 1.04), (1.2, 1.2, 1.2), (0.9, 0.9, 0.9)
    reference = LATENCY.reference.name

    def unsure(*of_paths: tuple[float, float, float]) -> list[int]:
        """Most probable first: the places of those that are timed again for a target of 1 ms."""
        by_name = {
            network_name(path): measured(rounds_ms[1]).model_copy(
                update={"round_medians_ms": rounds_ms, "rounds": 3}
            )
            for path, rounds_ms in zip(PATHS, of_paths, strict=False)
        }
        times = CandidateTimes(SPACE, LATENCY, Measured({**by_name, reference: measured(0.2)}, (), 1.0))
        paths = PATHS[: len(of_paths)]
        return [paths.index(path) for path in times.unsure(paths, 1.0)]

    assert unsure(at_the_edge, surely_above, keeps, at_the_edge) == [0]
    assert unsure(surely_above, at_the_edge, at_the_edge) == [1, 2]
    assert unsure(keeps, at_the_edge) == []
    assert unsure(surely_above, surely_above) == []


def test_a_killed_pass_goes_on_and_times_nothing_twice(picked: Picked) -> None:
    whole = edge(lambda n: 1.006, noise=0.02)
    with pytest.raises(InconclusiveError):
        Picked(picked.searched, picked.store).run(whole)
    unplugged = edge(lambda n: 1.006, noise=0.02, unplug_at=len(whole.order) * 3 // 5)
    with pytest.raises(DeviceError):
        picked.run(unplugged)
    resumed = edge(lambda n: 1.006, noise=0.02)
    resumed.timings = Counter(unplugged.timings)
    with pytest.raises(InconclusiveError):
        picked.run(resumed)
    assert resumed.timings == whole.timings


def test_a_further_target_that_cannot_be_told_is_told_of_and_no_end(picked: Picked) -> None:
    slowest = PREDICTED[-1]
    outcome = picked.run(edge(lambda n: 1.006, noise=0.02), pick_ms=1.1 * slowest, further=(TARGET_MS,))
    assert outcome.front == ()
    assert any("cannot be determined" in warning for warning in picked.told.warnings)


def test_a_target_below_every_network_is_refused_by_its_key(picked: Picked) -> None:
    with pytest.raises(InfeasibleTargetError, match=r"target\.pick_ms: no network"):
        picked.run(toy_device(), pick_ms=0.5 * PREDICTED[0])


# --- two series as one -------------------------------------------------------------------------------------


def series(*rounds_ms: float, anchor_ms: float = 0.2) -> Measured:
    name, reference = network_name(PATHS[0]), LATENCY.reference.name
    times = measured(sorted(rounds_ms)[len(rounds_ms) // 2]).model_copy(
        update={"round_medians_ms": rounds_ms, "rounds": len(rounds_ms)}
    )
    return Measured({name: times, reference: measured(anchor_ms)}, (), 1.0)


def test_all_rounds_of_two_series_count_alike() -> None:
    both = pooled(series(1.0, 1.2, 1.3, 1.4, 1.5), series(0.9)).by_name[network_name(PATHS[0])]
    assert both.median_ms == pytest.approx((1.2 + 1.3) / 2)
    assert both.round_medians_ms == (1.0, 1.2, 1.3, 1.4, 1.5, 0.9)
    assert pooled(series(1.0), series(1.0)).seconds == 2.0


def test_where_a_series_has_a_speed_of_its_own_the_anchor_tells_it() -> None:
    reference = LATENCY.reference.name
    both = pooled(series(1.0, anchor_ms=0.2), series(1.1, anchor_ms=0.22), reference)
    assert both.by_name[network_name(PATHS[0])].median_ms == pytest.approx(1.0)
    assert both.by_name[reference].median_ms == pytest.approx(0.2)
    foreign = LATENCY.model_copy(update={"foreign": ("model",)})
    times = CandidateTimes(SPACE, foreign, series(0.5, 0.5, 0.5, anchor_ms=0.1))
    assert times.timed(PATHS[0]).ms == pytest.approx(1.0), "half the time on a device twice as fast"


@pytest.mark.parametrize("target_ms", [0.0973, 0.1, 1.0, 12.345, 0.00012346])
@pytest.mark.parametrize("over", [1.0, 1.001, 1.02])
def test_an_offered_target_is_never_below_what_it_must_hold(target_ms: float, over: float) -> None:
    predicted_ms = 0.9999 * target_ms
    timed = [Timed(over * predicted_ms, 0.0, over * predicted_ms, predicted_ms)]
    offered = target_that_holds_ms(timed, target_ms, 3.0)
    assert offered is not None
    assert max(target_ms, 1.03 * predicted_ms) <= offered <= 1.002 * max(target_ms, 1.03 * predicted_ms)
    assert float(f"{offered:.4g}") == offered
