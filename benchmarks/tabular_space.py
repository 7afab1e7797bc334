"""Train every network of a small space, three times each: the truth that a search can be held against.

``--full`` writes ``benchmarks/data/tabular_space.jsonl``: a line that says how it was made, then one line for
each training. It goes on where it was stopped. Beside it lies ``tabular_space_latency.json``, what
``nasflow latency export`` writes for this space. Both are kept in the repository; the quick form only says
what is in them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Self

import yaml

from benchmarks._report import Outcome, at_least, main, say
from nasflow.base.errors import UsageError
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import DataConfig, open_dataset
from stages.documents import LatencyModel
from stages.latency.exchange import LatencyFile
from stages.space.search_space import SearchSpace
from stages.training.recipe import Recipe

FOLDER = Path(__file__).parent / "data"
TABLE = FOLDER / "tabular_space.jsonl"
LATENCY = FOLDER / "tabular_space_latency.json"
SEEDS = (0, 1, 2)
DATA = DataConfig(train_images=20_000)
RECIPE = Recipe(epochs=3)
PACKAGES = ("torch", "numpy", "lightning-fabric")

Choices = tuple[int, ...]


@cache
def tabular_space() -> SearchSpace:
    """Five searched layers of three candidates each: 243 networks."""
    text = (FOLDER / "tabular_space.yaml").read_text(encoding="utf-8")
    return SearchSpace.model_validate(yaml.safe_load(text))


@cache
def tabular_latency() -> LatencyModel:
    """The space's latency model, as it was measured once."""
    return LatencyFile.model_validate_json(LATENCY.read_bytes()).model


@cache
def block_keys(choices: Choices) -> tuple[str, ...]:
    """What a network is made of: choices that skip at different places may give the same network."""
    return tuple(block.key for block in tabular_space().network(choices).blocks)


@cache
def distinct_networks() -> tuple[Choices, ...]:
    """Each different network once, by the first choices that give it."""
    seen: dict[tuple[str, ...], Choices] = {}
    for choices in product(*(range(len(layer.blocks)) for layer in tabular_space().layers())):
        seen.setdefault(block_keys(choices), choices)
    return tuple(seen.values())


@dataclass(frozen=True)
class Run:
    """One training from fresh weights; accuracies of the epoch that was best on validation images."""

    choices: Choices
    seed: int
    validation_percent: float
    test_percent: float

    @classmethod
    def parse(cls, line: str) -> Self:
        """From a line of the table."""
        read = json.loads(line)
        return cls(**{**read, "choices": tuple(read["choices"])})


@dataclass(frozen=True)
class TrainedSpace:
    """All runs of the table, by network. ``test_percent`` averages over the seeds."""

    runs: dict[tuple[str, ...], list[Run]]

    @classmethod
    def read(cls, path: Path = TABLE) -> Self:
        """Raises UsageError where the table is not whole."""
        runs: dict[tuple[str, ...], list[Run]] = {}
        for run in _runs(path):
            runs.setdefault(block_keys(run.choices), []).append(run)
        missing = len(distinct_networks()) * len(SEEDS) - sum(map(len, runs.values()))
        if missing > 0:
            raise UsageError(
                f"{path} lacks {missing} trainings.",
                hint="Make them: python -m benchmarks.tabular_space --full",
            )
        return cls(runs)

    def test_percent(self, choices: Choices) -> float:
        """A network's accuracy on test images, mean of all seeds."""
        runs = self.runs[block_keys(choices)]
        return sum(run.test_percent for run in runs) / len(runs)


def provenance() -> dict[str, Any]:
    """What decides the numbers besides the code."""
    return {
        "space": tabular_space().model_dump(mode="json"),
        "data": DATA.model_dump(mode="json") | open_dataset(DATA).identity(),
        "recipe": RECIPE.model_dump(mode="json"),
        "seeds": list(SEEDS),
        "threads": 1,
        "versions": {
            name: version(name).partition("+")[0] for name in ("torch", "numpy", "lightning-fabric")
        },
    }


def make(path: Path = TABLE) -> None:
    """Train what the table lacks. Raises UsageError where the table was begun in another way."""
    head = json.dumps(provenance(), sort_keys=True)
    if path.exists():
        _drop_torn_line(path)
    # A kill while the first line was written leaves an empty file.
    if not path.exists() or not path.stat().st_size:
        path.write_text(head + "\n", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        if (begun := file.readline().rstrip("\n")) != head:
            raise UsageError(
                f"{path} was begun in another way than this one would go on: {begun[:200]}...",
                hint="Move it away to begin anew, or install the versions that it names.",
            )
    done = {(run.choices, run.seed) for run in _runs(path)}
    work = [(choices, seed) for seed in SEEDS for choices in distinct_networks()]
    left = [job for job in work if job not in done]
    say(f"tabular_space: {len(work) - len(left)} of {len(work)} trainings are there.")
    with one_thread(), path.open("a", encoding="utf-8") as file:
        for index, run in enumerate(train_networks(left)):
            file.write(json.dumps(vars(run)) + "\n")
            file.flush()
            say(f"tabular_space: {index + 1} of {len(left)}: {run.test_percent:.2f} %")


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


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def _runs(path: Path) -> list[Run]:
    if not path.exists():
        return []
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    return [Run.parse(line) for line in lines]


def train_networks(jobs: Sequence[tuple[Choices, int]]) -> Iterator[Run]:
    """Train networks from fresh weights, each with its seed, by the table's recipe."""
    import torch

    from stages.nn.network import Network, load_network
    from stages.seeds import derived_seed
    from stages.training.loop import train
    from stages.training.optimisation import accuracy_percent
    from stages.training.runtime import start_runtime

    runtime = start_runtime(0)
    training = open_dataset(DATA).load("train").batches(RECIPE.batch_size, runtime.device)
    validation, test = (
        open_dataset(DATA).load(part).batches(500, runtime.device) for part in ("choice", "test")
    )
    with tempfile.TemporaryDirectory() as folder:
        context = Context("table", "", Store(Path(folder), silent), FleetingScratch(), silent)
        for choices, seed in jobs:
            net = tabular_space().network(choices)
            torch.manual_seed(derived_seed(seed, 1))
            trained = train(
                Network(net),
                training,
                validation,
                RECIPE,
                seed=derived_seed(seed, 2),
                name=f"{choices} {seed}",
                context=context,
                runtime=runtime,
            )
            yield Run(
                choices,
                seed,
                trained.validation_accuracy_percent,
                accuracy_percent(load_network(net, trained.weights), test.in_order()),
            )


def silent(event: object) -> None:
    """The table tells of whole trainings only."""


def run(full: bool) -> Outcome:
    """Complete the table, or look at what there is of it."""
    if full:
        make()
    of_network: dict[tuple[str, ...], list[float]] = {}
    for training in _runs(TABLE):
        of_network.setdefault(block_keys(training.choices), []).append(training.test_percent)
    means = sorted(sum(accuracies) / len(accuracies) for accuracies in of_network.values())
    done, wanted = sum(map(len, of_network.values())), len(distinct_networks()) * len(SEEDS)
    figures = {
        "networks_in_space": tabular_space().size,
        "different_networks": len(distinct_networks()),
        "trainings": done,
        "accuracy_percent": [means[0], means[len(means) // 2], means[-1]] if means else [],
        # Within a network, over its seeds; what is common to a seed is still in it.
        "seed_deviation_points": _pooled_deviation(of_network.values()),
    }
    return Outcome(figures, [at_least("trainings", done, wanted)] if full else [])


def _pooled_deviation(groups: Iterable[list[float]]) -> float | None:
    squares = freedom = 0.0
    for group in groups:
        middle = sum(group) / len(group)
        squares += sum((value - middle) ** 2 for value in group)
        freedom += len(group) - 1
    return (squares / freedom) ** 0.5 if freedom else None


if __name__ == "__main__":
    sys.exit(main("tabular_space", run))
