"""What squeeze-and-excite and h-swish cost on this computer.

Blocks of ``mobile_v3``'s sizes at five places, each with neither, with one and with both, side by side: every
round times all of them in another order. ``cost_percent`` is how much longer a variant takes than the plain
block (the median over rounds of the two times' ratio). The same is done with whole networks, in which every
searched block has the same variant. ``pieces`` says in how many partitions XNNPACK runs a model.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from android_bench.device import BenchmarkRequest, Device
from android_bench.local.device import LocalDevice
from benchmarks._report import Outcome, at_most, main, say
from stages.conversion.flatbuffer import block_model, network_model
from stages.conversion.inspection import inspect_model
from stages.space import SpaceConfig, load_space
from stages.space.block_spec import BlockSpec
from stages.space.search_space import Candidate, SearchSpace

PLAIN = "plain"
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "se": {"squeeze_excite": True},
    "hs": {"activation": "hswish"},
    "se_hs": {"squeeze_excite": True, "activation": "hswish"},
}
# (kernel, expansion, channels, resolution): a layer that is not its stage's first.
PLACES = ((3, 3, 24, 56), (5, 3, 40, 28), (3, 6, 80, 14), (3, 6, 112, 14), (5, 6, 160, 7))


def run(full: bool) -> Outcome:
    """Time every variant at every place, and whole networks of one variant each."""
    rounds, network_rounds = (60, 40) if full else (12, 8)
    space = load_space(SpaceConfig(name="mobile_v3"))
    groups = {key: _block_models(block) for key, block in _blocks().items()}
    groups["network"] = {name: _network(space, fields) for name, fields in VARIANTS.items()}
    generator = random.Random(0)
    rows: list[dict[str, Any]] = []
    with LocalDevice() as device:
        for name, models in groups.items():
            count = network_rounds if name == "network" else rounds
            medians = _measure(device, models, count, generator)
            rows.append({"of": name, "rounds": count, **_figures(models, medians)})
            say(f"{name}: " + ", ".join(f"{v} {ms:.4f} ms" for v, ms in rows[-1]["median_ms"].items()))
    most = max(pieces for row in rows for pieces in row["pieces"].values())
    return Outcome(figures={"rows": rows}, bars=[at_most("most_pieces", most, 1)])


def _blocks() -> dict[str, BlockSpec]:
    blocks = [
        BlockSpec(kind="mbconv", kernel=k, expansion=e, in_channels=c, out_channels=c, resolution=r)
        for k, e, c, r in PLACES
    ]
    return {block.key: block for block in blocks}


def _block_models(block: BlockSpec) -> dict[str, bytes]:
    specs = {name: BlockSpec.model_validate(block.model_dump() | VARIANTS[name]) for name in VARIANTS}
    return {name: block_model(spec) for name, spec in specs.items()}


def _network(space: SearchSpace, fields: dict[str, Any]) -> bytes:
    """3x3 with expansion 6 in every layer."""
    candidate = Candidate.model_validate({"kernel": 3, "expansion": 6} | fields)
    alone = space.model_copy(update={"candidates": (candidate,), "skip": False})
    return network_model(alone.network([0] * len(alone.layers())))


def _measure(
    device: Device, models: dict[str, bytes], rounds: int, generator: random.Random
) -> dict[str, Sequence[float]]:
    """Each variant's medians, round by round."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name in generator.sample(sorted(models), len(models)):
            request = BenchmarkRequest(name=name, model=models[name], min_ms=20)
            found[name].append(device.benchmark(request).median_ms)
    return {name: tuple(medians) for name, medians in found.items()}


def _figures(models: dict[str, bytes], medians: dict[str, Sequence[float]]) -> dict[str, Any]:
    def cost(name: str) -> float:
        return 100 * median(a / b - 1 for a, b in zip(medians[name], medians[PLAIN], strict=True))

    return {
        "median_ms": {name: median(values) for name, values in medians.items()},
        "cost_percent": {name: cost(name) for name in medians if name != PLAIN},
        "pieces": {
            name: inspect_model(model, name=name).delegate_partitions for name, model in models.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main("block_variants", run))
