"""Does a short search order the quick start's networks as trainings do, and at which rate of its weights?

Networks are drawn evenly from those that may be picked under the quick start's target, and each is trained
for one epoch from fresh weights, as on a slow computer. Supernets of one epoch of warm-up and one of search
learn at several rates. Of each, two orders of these networks are held against that of their accuracies: by
the posterior's mean, which decides, and by the last weights' loss. Control: a supernet whose weights hardly
learn at all.

Latencies are those of one computer (``benchmarks/data/fashion_costs.json``), so that all measure the same
networks. What is done is kept in this account's cache: a second call goes on where the first was stopped.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Outcome, above, at_most, main
from benchmarks._tabular import FOLDER, Choices
from benchmarks.tabular_space import one_thread, silent, train_network
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import DataConfig, open_dataset
from stages.nas.config import SearchConfig
from stages.nas.latency_window import LatencyTarget, LatencyWindow
from stages.nas.targets import TargetConfig
from stages.search import Search
from stages.space import SpaceConfig, load_space
from stages.space.search_space import SearchSpace
from stages.training.recipe import Recipe

if TYPE_CHECKING:
    from stages.nas.search_loop import SearchLoop

DATA, RECIPE = DataConfig(), Recipe(epochs=1)
NETWORKS, SUPERNETS = 32, 4
DEFAULT = SearchConfig().learning_rate
RATES, UNTRAINED = (DEFAULT, 0.1), 1e-9
BATCHES = 8  # of validation images, for the last weights' losses
QUICK_DATA = DataConfig(train_images=2_000)


@cache
def quick_start() -> tuple[SearchSpace, dict[str, Any], LatencyWindow]:
    """Its space, its costs in milliseconds, and the networks that may be picked under its target."""
    costs = json.loads((FOLDER / "fashion_costs.json").read_text(encoding="utf-8"))
    fixed_ms, target_ms = costs["fixed_ms"], costs["target_ms"]
    least_ms = TargetConfig().minimum_share * target_ms - fixed_ms
    window = LatencyWindow(costs["costs_ms"], least_ms, target_ms - fixed_ms)
    return load_space(SpaceConfig(name="fashion"), Path()), costs, window


@cache
def networks(count: int) -> tuple[Choices, ...]:
    """Drawn evenly from the window, each once."""
    import numpy as np

    _, _, window = quick_start()
    even = [0.0 * row for row in window.costs_ms]
    return tuple(map(tuple, window.draw(even, count, np.random.default_rng(123)).tolist()))


def work(job: Job) -> Any:
    """A network's accuracy in percent, or what a supernet says of all networks; for JSON."""
    kind, quick, count, *numbers = job
    data, paths = QUICK_DATA if quick else DATA, networks(int(count))
    first, seed = (int(number) for number in (*numbers, 0)[:2])
    with one_thread():
        if kind == "network":
            space, _, _ = quick_start()
            return train_network(space, paths[first], seed, data, RECIPE).test_percent
        return what_a_supernet_says(paths, data, (*RATES, UNTRAINED)[first], seed)


def what_a_supernet_says(
    paths: Sequence[Choices], data: DataConfig, rate: float, seed: int
) -> dict[str, list[float]]:
    """Of each network the posterior's mean and, by the last weights, the loss with its sign changed."""
    import numpy as np
    import torch

    from stages.nas.estimators.whole_paths import WholePaths
    from stages.nas.path_values import likely_variances
    from stages.nas.rules.posterior import posterior_of

    with tempfile.TemporaryDirectory() as folder:
        context = Context("search", "", Store(Path(folder), silent), FleetingScratch(), silent)
        loop = _loop(data, rate, seed, context)
        loop.to_the_end()
    assert isinstance(loop.estimator, WholePaths)
    seen = loop.estimator.evaluations()
    assert seen is not None
    sizes = [len(layer.blocks) for layer in loop.space.layers()]
    mean_of_all = posterior_of(seen, sizes, likely_variances(seen, sizes)).mean()
    losses = np.zeros(len(paths))
    with torch.no_grad(), loop.supernet.architecture_step():
        for x_NCHW, labels_N in islice(loop.validation.training(seed, 0, mix=False), BATCHES):
            for number, path in enumerate(paths):
                losses[number] += float(loop.architecture_loss(loop.supernet(x_NCHW, path), labels_N))
    return {"estimated": mean_of_all.value(np.array(paths)).tolist(), "last": (-losses / BATCHES).tolist()}


def _loop(data: DataConfig, rate: float, seed: int, context: Context) -> SearchLoop:
    from stages.nas.architecture import Architecture
    from stages.nas.search_loop import SearchLoop
    from stages.training.runtime import start_runtime

    space, costs, window = quick_start()
    config = SearchConfig(warmup_epochs=1, epochs=1, learning_rate=rate)
    runtime, images = start_runtime(seed), open_dataset(data)
    return SearchLoop(
        config,
        space,
        seed,
        Architecture(costs["costs_ms"], costs["fixed_ms"]),
        [LatencyTarget(costs["target_ms"], window)],
        context,
        runtime,
        images.load("train").batches(config.batch_size, runtime.device),
        images.load("architecture").batches(config.architecture_batch_size, runtime.device),
    )


def run(full: bool) -> Outcome:
    """All networks and supernets; without ``full`` a few of them, on few images."""
    data, count, supernets = (DATA, NETWORKS, SUPERNETS) if full else (QUICK_DATA, 6, 1)
    space, costs, _ = quick_start()
    identity = data.model_dump(mode="json") | open_dataset(data).identity()
    decided_by = [space.model_dump_json(), json.dumps(costs), json.dumps(identity), RECIPE.model_dump_json()]
    searches = f"{SearchConfig().model_dump_json()} {RATES} {Search.version}"
    kept = KeptLines("short_search", [*decided_by, searches])
    trained: list[Job] = [("network", int(not full), count, n) for n in range(count)]
    searched: list[Job] = [
        ("supernet", int(not full), count, rate, seed)
        for seed in range(supernets)
        for rate in range(len(RATES) + (seed == 0))
    ]
    found = dict(kept.results([*trained, *searched], work))
    outcome = summarise([found[job] for job in trained], {job[3:]: found[job] for job in searched}, full=full)
    kept.finish()
    return outcome


def summarise(accuracy_percent: Sequence[float], said: dict[Job, Any], *, full: bool) -> Outcome:
    """Rank correlations with the accuracies; ``said`` by the rate's number and the seed."""
    from scipy.stats import spearmanr

    figures: dict[str, Any] = {"accuracy_percent": list(accuracy_percent)}
    for rate, name in enumerate([*(f"rate_{rate:g}" for rate in RATES), "untrained"]):
        for order in ("estimated", "last"):
            figures[f"{name}_{order}"] = [
                float(spearmanr(of[order], accuracy_percent).statistic)
                for (number, _), of in said.items()
                if number == rate
            ]
    ours, earlier = (mean(figures[f"rate_{rate:g}_estimated"]) for rate in RATES)
    bars = [
        above("default_rate_correlation", ours, max(0.0, earlier)),
        at_most("untrained_correlation", figures["untrained_estimated"][0], ours),
    ]
    return Outcome(figures, bars if full else [])


if __name__ == "__main__":
    sys.exit(main("short_search", run))
