"""What ten networks measured on a simulated phone make of another phone's latency model.

The old phone's model is made by the program itself, on a simulated device that drifts. The new phones are the
old one's blocks, each times a ratio that is known here:

- ``kinds``: depthwise blocks 1.4, dense ones 0.8, those bound by memory 1.0;
- ``operators``: the same inside each block, by the share of its time that its depthwise convolution takes;
- ``blocks``: each block lognormal, standard deviation 12 %, times an interaction of kernel and width (one
  standard deviation of both together: 8 %, its sign by chance).

Ten networks are measured with 1 % noise a round. The truth of 100 other networks, drawn evenly over the
latencies, is what predictions are held against.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from android_bench.virtual_phone.described_cost import operators_ms
from benchmarks._drift import DriftingDevice, true_ms
from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, above, at_least, at_most, commit, say
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.conversion.flatbuffer import block_model
from stages.documents import LatencyModel, ReferenceLatency
from stages.latency.adaptation import TakenThere, adapt, old_times, own_error, plan
from stages.latency.calibration import Choices, draw_networks
from stages.latency.config import LatencyConfig
from stages.latency.fit import fit_line
from stages.latency.informative import choose_networks, counts_of
from stages.latency.likeness import Likeness, likeness_of
from stages.latency.ratios import Known, infer_ratios
from stages.latency.table_check import block_kinds, depthwise_share
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileConfig, ProfileOps
from stages.space import SpaceConfig, load_space
from stages.space.search_space import SearchSpace

Array = NDArray[np.float64]
Phone = Literal["kinds", "operators", "blocks"]

KINDS_OF_PHONES: tuple[Phone, ...] = get_args(Phone)
MEASURED, JUDGED, ROUNDS, NOISE = 10, 100, 8, 0.01
OWN_SD, INTERACTION_SD = 0.12, 0.08
KINDS = {"depthwise": 1.4, "dense": 0.8, "memory": 1.0}
_MACS_PER_MS = 1e7
_NEVER = 10**9


def adapt_figures(full: bool) -> dict[str, Any]:
    """By space and kind of phone, the errors of all methods, each over many phones."""
    names = ("fashion", "proxyless_mobile") if full else ("fashion",)
    figures = {name: _of_space(name, 40 if full else 8) for name in names}
    kept_phones().finish()
    return figures


def adapt_bars(figures: Mapping[str, Any]) -> list[Bar]:
    """The bars of the issue, for each space."""
    bars = []
    for space, found in figures.items():
        blocks = found["blocks"]
        for kind in ("kinds", "operators"):
            worst = found[kind]["adapted"]["worst_share_within_5"]
            bars.append(at_least(f"{space}_{kind}_worst_share_within_5", worst, 0.9))
            # Half of the time of fashion's networks is that of blocks bound by memory, whose ratio is 1.
            if (space, kind) != ("fashion", "kinds"):
                old = found[kind]["old"]["share_within_5"]
                bars.append(at_most(f"{space}_{kind}_old_share_within_5", old, 0.4))
        bars += [
            *(
                above(f"{space}_blocks_error_saved_{name}", blocks["saved_points"][name]["interval_95"][0], 0)
                for name in ("old", "alone", "alone_with_prior")
            ),
            at_least(f"{space}_blocks_share_within_interval", blocks["share_within_interval"], 0.9),
        ]
    return bars


@dataclass(frozen=True)
class _Old:
    """The old phone: its model, its true times of blocks amid a network (B + 1), and what is chosen by it."""

    space: SearchSpace
    model: LatencyModel
    times: Array
    likeness: Likeness
    judged: Array
    designs: Mapping[str, tuple[Choices, ...]]


def _of_space(name: str, phones: int) -> dict[str, Any]:
    space = load_space(SpaceConfig(name=name))
    figures: dict[str, Any] = {"blocks_in_space": len(space.distinct_blocks()), "phones": phones}
    kept = kept_phones()
    say(f"hardware: {phones} phones of each kind, space {name}")
    jobs: list[Job] = [(name, kind, seed) for kind in KINDS_OF_PHONES for seed in range(phones)]
    found = dict(kept.results(jobs, one_phone))
    for kind in KINDS_OF_PHONES:
        figures[kind] = _summary([found[name, kind, seed] for seed in range(phones)])
    return figures


def kept_phones() -> KeptLines:
    """What a benchmark that was stopped has found, of the same state of the program."""
    return KeptLines("hardware", [commit(), Path(__file__).read_text(encoding="utf-8")])


def one_phone(job: Job) -> dict[str, Any]:
    """The errors of all methods on one phone: (space, kind, seed). Called in processes of its own."""
    name, kind, seed = job
    return _one_phone(_old_phone_of(str(name)), cast("Phone", kind), int(seed))


@cache
def _old_phone_of(name: str) -> _Old:
    say(f"hardware: the old phone's model of space {name}")
    return _old_phone(load_space(SpaceConfig(name=name)))


def _old_phone(space: SearchSpace) -> _Old:
    device = DriftingDevice(lambda request: true_ms(request.model), seed=1, throttle_at=_NEVER)
    options = RuntimeOptions()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), _silent)
        table = ProfileOps(ProfileConfig(), space, options, 0, device).run(
            Context("profile", "", store, FleetingScratch(), _silent)
        )
        model = FitLatency(LatencyConfig(), space, options, 0, device).run(
            Context("latency", "", store, FleetingScratch(), _silent), table=table
        )
    blocks = space.distinct_blocks()
    times = [
        1.08 * min(operators_ms(block_model(block, way))[0] for way in block.implementations)
        for block in blocks
    ]
    likeness, believed = likeness_of(blocks), old_times(model, space)
    by_key = {block.key: float(ms) for block, ms in zip(blocks, believed[:-1], strict=True)}
    chosen = plan(model, space, MEASURED, MEASURED, 0).learned
    random = [tuple(row) for row in _random_networks(space)]
    noise = math.hypot(own_error(model), NOISE)
    return _Old(
        space,
        model,
        np.array([*times, 0.02]),
        likeness,
        counts_of(space, draw_networks(space, by_key, JUDGED, 7)),
        {
            "chosen": chosen,
            "spread": tuple(draw_networks(space, by_key, MEASURED, 11)),
            "random": tuple(random),
            "d_optimal": tuple(
                choose_networks(space, believed, likeness, MEASURED, noise=noise, seed=0, criterion="ratios")
            ),
        },
    )


def _random_networks(space: SearchSpace) -> Array:
    chance = np.random.default_rng(0)
    sizes = [len(layer.blocks) for layer in space.layers()]
    return np.stack([chance.integers(0, size, MEASURED) for size in sizes], axis=1)


def _one_phone(old: _Old, kind: Phone, seed: int) -> dict[str, Any]:
    chance = np.random.default_rng([seed, KINDS_OF_PHONES.index(kind)])
    there = old.times * np.append(_ratios(old.space, kind, chance), 1.0)
    truth = old.judged @ there
    errors: dict[str, Array] = {"old": _off(old.judged @ old_times(old.model, old.space), truth)}
    measured = {name: _measured(old.space, design, there, chance) for name, design in old.designs.items()}
    within = 0.0
    for name, points in measured.items():
        model = _adapted(old, points)
        error = _off(old.judged @ old_times(model, old.space), truth)
        errors["adapted" if name == "chosen" else f"adapted_{name}"] = error
        if name == "chosen":
            within = float(np.mean(error <= model.interval_percent / 100))
            interval_percent = model.interval_percent
    errors |= _other_methods(old, measured["chosen"], truth)
    lists = {name: error.tolist() for name, error in errors.items()}
    return {"errors": lists, "within": within, "interval_percent": interval_percent}


def _ratios(space: SearchSpace, kind: Phone, chance: np.random.Generator) -> Array:
    blocks = space.distinct_blocks()
    if kind == "kinds":
        kinds = block_kinds(blocks)
        return np.array([KINDS[kinds[block.key]] for block in blocks])
    if kind == "operators":
        shares = np.array([depthwise_share(block) for block in blocks])
        return KINDS["depthwise"] * shares + KINDS["dense"] * (1 - shares)
    kernel = _standard([math.log2(block.kernel) for block in blocks])
    width = _standard([math.log2(block.out_channels) for block in blocks])
    sign = chance.choice([-1.0, 1.0])
    own = chance.normal(0, OWN_SD, len(blocks))
    return np.asarray(np.exp(own + sign * INTERACTION_SD * kernel * width))


def _standard(values: Sequence[float]) -> Array:
    array = np.array(values)
    return np.asarray((array - array.mean()) / array.std())


def _measured(
    space: SearchSpace, networks: Sequence[Choices], there: Array, chance: np.random.Generator
) -> list[tuple[Choices, LatencyMeasurement]]:
    found = []
    for choices, ms in zip(networks, counts_of(space, networks) @ there, strict=True):
        rounds = tuple((ms * np.exp(chance.normal(0, NOISE, ROUNDS))).tolist())
        middle = median(rounds)
        found.append(
            (
                choices,
                LatencyMeasurement(
                    median_ms=middle,
                    p5_ms=min(rounds),
                    p95_ms=max(rounds),
                    min_ms=min(rounds),
                    runs=10 * ROUNDS,
                    rounds=ROUNDS,
                    round_medians_ms=rounds,
                ),
            )
        )
    return found


def _adapted(old: _Old, points: list[tuple[Choices, LatencyMeasurement]]) -> LatencyModel:
    there = TakenThere(
        DeviceInfo(
            kind="local", model="New phone", soc="none", os_build="none", runtime="none", virtual=True
        ),
        RuntimeOptions(),
        ReferenceLatency(
            name=old.model.reference.name, net=old.model.reference.net, measurement=points[0][1]
        ),
        (),
        seconds=0.0,
        shift_percent=0.0,
    )
    return adapt(old.model, old.space, points, points, there)


def _other_methods(
    old: _Old, points: list[tuple[Choices, LatencyMeasurement]], truth: Array
) -> dict[str, Array]:
    """The old model times one factor, and what ten networks tell alone, by their multiply-accumulates."""
    networks = [choices for choices, _ in points]
    counts, measured = counts_of(old.space, networks), np.array([m.median_ms for _, m in points])
    believed = old_times(old.model, old.space)
    factor = np.exp(np.mean(np.log(measured / (counts @ believed))))
    macs = np.array([block.macs / _MACS_PER_MS for block in old.space.distinct_blocks()] + [0.0])
    per_mac, offset = fit_line((counts @ macs).tolist(), measured.tolist())
    alone = infer_ratios(Known(macs, counts, measured, np.full(len(measured), NOISE)), old.likeness)
    return {
        "scaled": _off(factor * (old.judged @ believed), truth),
        "alone": _off(per_mac * (old.judged @ macs) + offset, truth),
        "alone_with_prior": _off(alone.predict_ms(old.judged), truth),
    }


def _off(predicted: Array, truth: Array) -> Array:
    return np.asarray(np.abs(predicted / truth - 1))


def _summary(phones: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over phones: each method's errors, and what the adapted model saves against it, by phone."""
    methods: dict[str, Any] = {}
    saved: dict[str, Any] = {}
    ours = np.array([np.mean(phone["errors"]["adapted"]) for phone in phones])
    for name in phones[0]["errors"]:
        errors = np.array([phone["errors"][name] for phone in phones])
        shares = np.mean(errors <= 0.05, axis=1)
        methods[name] = {
            "share_within_5": float(shares.mean()),
            "worst_share_within_5": float(shares.min()),
            "mean_error_percent": float(100 * errors.mean()),
        }
        if name != "adapted":
            saved[name] = _interval(100 * (errors.mean(axis=1) - ours))
    return {
        **methods,
        "saved_points": saved,
        "share_within_interval": float(np.mean([phone["within"] for phone in phones])),
        "interval_percent": float(np.mean([phone["interval_percent"] for phone in phones])),
    }


def _interval(differences: Array) -> dict[str, Any]:
    """Mean over phones and its 95 % interval by Student's t."""
    from scipy.special import stdtrit

    mean, count = float(differences.mean()), len(differences)
    half = float(stdtrit(count - 1, 0.975)) * float(differences.std(ddof=1)) / math.sqrt(count)
    return {"mean": mean, "interval_95": [mean - half, mean + half]}


def _silent(_: object) -> None:
    """Thousands of timings are not worth a line each."""
