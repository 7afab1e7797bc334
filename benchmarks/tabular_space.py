"""Train every network of two small spaces, several times each: the truth that a search can be held against.

``--full`` writes the tables of ``benchmarks/data`` (:mod:`benchmarks._tabular`) that are not there, on all
cores; it goes on where it was stopped. They are kept in the repository; the quick form only says what is in
them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Bar, Outcome, at_least, main
from benchmarks._tabular import SPACES, Choices, Run, Tabular, read_runs
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import DataConfig, open_dataset
from stages.space.search_space import SearchSpace
from stages.training.recipe import Recipe


def make(of: Tabular, path: Path | None = None) -> None:
    """Train what a table that is not there needs; one that is there stays as it is."""
    path = path or of.table
    if path.exists():
        return
    head = json.dumps(of.provenance(), sort_keys=True)
    kept = KeptLines(of.name, [head])
    jobs: list[Job] = [(of.name, seed, *choices) for seed in of.seeds for choices in of.networks]
    found = dict(kept.results(jobs, train_job))
    lines = [head, *(json.dumps(found[job]) for job in jobs)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept.finish()


def train_job(job: Job) -> dict[str, Any]:
    """One training of a table: a :class:`Run` for JSON."""
    name, seed, *choices = job
    of = SPACES[str(name)]
    with one_thread():
        return vars(train_network(of.space, tuple(map(int, choices)), int(seed), of.data, of.recipe))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that sums have one order; afterwards on as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_network(space: SearchSpace, choices: Choices, seed: int, data: DataConfig, recipe: Recipe) -> Run:
    """Train a network from fresh weights."""
    import torch

    from stages.nn.network import Network, load_network
    from stages.seeds import derived_seed
    from stages.training.loop import train
    from stages.training.optimisation import accuracy_percent
    from stages.training.runtime import start_runtime

    runtime, dataset, net = start_runtime(0), open_dataset(data), space.network(choices)
    training = dataset.load("train").batches(recipe.batch_size, runtime.device)
    validation, test = (dataset.load(part).batches(500, runtime.device) for part in ("choice", "test"))
    torch.manual_seed(derived_seed(seed, 1))
    with tempfile.TemporaryDirectory() as folder:
        trained = train(
            Network(net),
            training,
            validation,
            recipe,
            seed=derived_seed(seed, 2),
            name=f"{choices} {seed}",
            context=Context("table", "", Store(Path(folder), silent), FleetingScratch(), silent),
            runtime=runtime,
        )
    percent = accuracy_percent(load_network(net, trained.weights), test.in_order())
    return Run(choices, seed, trained.validation_accuracy_percent, percent)


def silent(event: object) -> None:
    """The table tells of whole trainings only."""


def run(full: bool) -> Outcome:
    """Complete the tables, or look at what there is of them."""
    figures, bars = {}, []
    for of in SPACES.values():
        if full:
            make(of)
        figures[of.name], bar = summarise(of)
        bars.append(bar)
    return Outcome(figures, bars if full else [])


def summarise(of: Tabular) -> tuple[dict[str, Any], Bar]:
    """What is in a table, and whether it is whole."""
    percent = [[run.test_percent for run in runs] for runs in read_runs(of).values()]
    means = sorted(sum(runs) / len(runs) for runs in percent)
    done, wanted = sum(map(len, percent)), len(of.networks) * len(of.seeds)
    figures = {
        "networks_in_space": of.space.size,
        "different_networks": len(of.networks),
        "trainings": done,
        "made_otherwise": made_otherwise(of),
        "accuracy_percent": [means[0], means[len(means) // 2], means[-1]] if means else [],
        # Within a network, over its seeds; what is common to a seed is still in it.
        "seed_deviation_points": _pooled_deviation(percent),
    }
    return figures, at_least(f"{of.name}_trainings", done, wanted)


def made_otherwise(of: Tabular, path: Path | None = None) -> list[str]:
    """What a table's first line says otherwise than a new one's would: ``recipe.clip``, as an example.

    A setting that has come since then stands there, too, though its default changes nothing.
    """
    path = path or of.table
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        made, now = (_flat(head) for head in (json.loads(file.readline()), of.provenance()))
    return sorted(key for key in made.keys() | now.keys() if made.get(key) != now.get(key))


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _pooled_deviation(groups: Iterable[list[float]]) -> float | None:
    squares = freedom = 0.0
    for group in groups:
        middle = sum(group) / len(group)
        squares += sum((value - middle) ** 2 for value in group)
        freedom += len(group) - 1
    return (squares / freedom) ** 0.5 if freedom else None


if __name__ == "__main__":
    sys.exit(main("tabular_space", run))
