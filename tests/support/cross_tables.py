"""Cross tables of invented figures, to draw reports from."""

from __future__ import annotations

import math
import random

from support.sample_documents import DEVICE, TEST_IMAGES, block_ms, sample_documents

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from pipeline.artifact import Document
from stages.documents import (
    CellAccuracy,
    CrossCell,
    CrossTable,
    HardwareNetwork,
    HardwareTarget,
    SearchResult,
    Verification,
)
from stages.space.block_spec import BlockSpec
from stages.space.preferences import shares_of_probabilities
from stages.space.search_space import SearchSpace
from stages.verification.statistics import wilson_interval

PHONE = DeviceInfo(
    kind="android", model="A Phone", soc="its chip", os_build="o", runtime="benchmark_model 2.3", virtual=True
)
TARGETS: dict[str, tuple[DeviceInfo, RuntimeOptions]] = {
    "local": (DEVICE, RuntimeOptions()),
    "local@threads=2": (DEVICE, RuntimeOptions(threads=2)),
    "local@precision=int8": (DEVICE, RuntimeOptions(precision="int8")),
    "android:127.0.0.1:5555": (PHONE, RuntimeOptions()),
}


def sample_cross_table(*, trained: bool = True, count: int = 4) -> CrossTable:
    """Of ``count`` targets, whose first has the found network of the sample documents."""
    documents = sample_documents()
    search, verify = documents["search"], documents["verify"]
    assert isinstance(search, SearchResult)
    assert isinstance(verify, Verification)
    space, chance = search.space, random.Random(3)
    found = next(n for n in verify.networks if n.role == "found").net
    names = list(TARGETS)[:count]
    paths = {name: _path(space, name) for name in names}
    networks = tuple(
        HardwareNetwork(
            target=name,
            choices=paths[name],
            net=found if name == "local" else space.network(paths[name]),
            estimated_loss=0.41 + 0.02 * index,
            learned=shares_of_probabilities(
                space,
                [[math.log(1 / len(layer.blocks))] * len(layer.blocks) for layer in space.layers()],
            ),
            folder=f"devices/{index}" if trained else "",
        )
        for index, name in enumerate(names)
    )
    targets = tuple(
        HardwareTarget(
            name=name,
            device=TARGETS[name][0],
            runtime=TARGETS[name][1],
            target_ms=1.02 * _ms(name, network),
            interval_percent=4.0,
        )
        for name, network in zip(names, networks, strict=True)
    )
    cells = []
    for column, name in enumerate(names):
        own_ms = _ms(name, networks[column])
        for row, network in enumerate(networks):
            ratio = _ms(name, network) / own_ms
            same = row == column
            correct = 9184 - 25 * row
            wilson = wilson_interval(correct, TEST_IMAGES)
            points = 0.25 * (column - row)
            cells.append(
                CrossCell(
                    network=network.target,
                    target=name,
                    predicted_ms=_ms(name, network),
                    measurement=_measured(_ms(name, network), chance),
                    ratio_to_own=ratio,
                    ratio_to_own_interval_95=(1.0, 1.0) if same else (0.98 * ratio, 1.02 * ratio),
                    # No int8 file of the phone's network: the cell has no accuracy.
                    accuracy=None
                    if not trained or (row == 3 and column == 2)
                    else CellAccuracy(
                        percent=100 * wilson.value,
                        interval_95=(100 * wilson.low, 100 * wilson.high),
                        points=points,
                        points_interval_95=(0.0, 0.0) if same else (points - 0.3, points + 0.3),
                    ),
                )
            )
    return CrossTable(
        space=space.name,
        targets=targets,
        networks=networks,
        cells=tuple(cells),
        seconds=12.0,
        test_images=TEST_IMAGES if trained else 0,
    )


def shared_with(documents: dict[str, Document]) -> dict[str, Document]:
    """The run's documents as those of a device for which another one's search was used."""
    return {**documents, "search": documents["search"].model_copy(update={"searched_on": "local@threads=2"})}


def _path(space: SearchSpace, name: str) -> tuple[int, ...]:
    chance = random.Random(name)
    return tuple(chance.randrange(len(layer.blocks)) for layer in space.layers())


def _ms(name: str, network: HardwareNetwork) -> float:
    taste = random.Random(f"{name} likes")
    factors = {kernel: taste.uniform(0.5, 1.6) for kernel in (1, 3, 5, 7)}

    def of(block: BlockSpec) -> float:
        return block_ms(block) * factors[block.kernel]

    return sum(map(of, network.net.blocks))


def _measured(ms: float, chance: random.Random) -> LatencyMeasurement:
    medians = tuple(ms * chance.lognormvariate(0, 0.01) for _ in range(6))
    return LatencyMeasurement(
        median_ms=ms,
        p5_ms=0.98 * ms,
        p95_ms=1.04 * ms,
        min_ms=0.97 * ms,
        runs=600,
        rounds=6,
        round_medians_ms=medians,
    )
