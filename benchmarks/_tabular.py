"""Small spaces whose networks are all trained: the truth that a search can be held against.

In ``benchmarks/data`` lie, beside the space's YAML file, the table of trainings (a line that says how they
were made, then one for each) and the latency model, as ``nasflow latency export`` writes it.
:mod:`benchmarks.tabular_space` makes the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Self

import yaml

from nasflow.base.errors import UsageError
from stages.data.config import DataConfig, open_dataset
from stages.documents import LatencyModel
from stages.latency.exchange import LatencyFile
from stages.space.search_space import SearchSpace
from stages.training.recipe import Recipe

FOLDER = Path(__file__).parent / "data"
PACKAGES = ("torch", "numpy", "lightning-fabric")

Choices = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Tabular:
    """A small space, and how its networks are trained: each once by every seed, from fresh weights."""

    name: str
    data: DataConfig
    recipe: Recipe
    seeds: tuple[int, ...]
    _keys: dict[Choices, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False)
    _ms: dict[Choices, float] = field(default_factory=dict, init=False, repr=False)

    @property
    def table(self) -> Path:
        """The table of trainings."""
        return FOLDER / f"{self.name}.jsonl"

    @property
    def latency_file(self) -> Path:
        """The latency model's file."""
        return FOLDER / f"{self.name}_latency.json"

    @cached_property
    def space(self) -> SearchSpace:
        """The networks."""
        text = (FOLDER / f"{self.name}.yaml").read_text(encoding="utf-8")
        return SearchSpace.model_validate(yaml.safe_load(text))

    @cached_property
    def latency(self) -> LatencyModel:
        """Its latency model, as it was measured once."""
        return LatencyFile.model_validate_json(self.latency_file.read_bytes()).model

    @cached_property
    def paths(self) -> tuple[Choices, ...]:
        """Every path of the space, also those that give the same network."""
        return tuple(product(*(range(len(layer.blocks)) for layer in self.space.layers())))

    @cached_property
    def networks(self) -> tuple[Choices, ...]:
        """Each different network once, by the first path that gives it."""
        seen: dict[tuple[str, ...], Choices] = {}
        for choices in self.paths:
            seen.setdefault(self.keys(choices), choices)
        return tuple(seen.values())

    def keys(self, choices: Choices) -> tuple[str, ...]:
        """What a network is made of: paths that skip at different places may give the same network."""
        if choices not in self._keys:
            self._keys[choices] = tuple(block.key for block in self.space.network(choices).blocks)
        return self._keys[choices]

    def ms(self, choices: Choices) -> float:
        """A network's latency by the space's latency model."""
        if choices not in self._ms:
            self._ms[choices] = self.latency.predict_ms(self.space.network(choices))
        return self._ms[choices]

    def provenance(self) -> dict[str, Any]:
        """What decides the numbers besides the code."""
        return {
            "space": self.space.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json") | open_dataset(self.data).identity(),
            "recipe": self.recipe.model_dump(mode="json"),
            "seeds": list(self.seeds),
            "threads": 1,
            "versions": {name: version(name).partition("+")[0] for name in PACKAGES},
        }


TABULAR = Tabular("tabular_space", DataConfig(train_images=20_000), Recipe(epochs=3), (0, 1, 2))
CONTRAST = Tabular("tabular_contrast", DataConfig(train_images=3_000), Recipe(epochs=12), (0, 1))
"""Few images and unlike candidates: networks of one latency differ by more than trainings do."""
SPACES: Mapping[str, Tabular] = {of.name: of for of in (TABULAR, CONTRAST)}


@dataclass(frozen=True)
class Run:
    """One training from fresh weights; accuracies of the epoch that was best on validation images."""

    choices: Choices
    seed: int
    validation_percent: float
    test_percent: float

    @classmethod
    def parse(cls, read: Mapping[str, Any]) -> Self:
        """From JSON."""
        return cls(**{**read, "choices": tuple(read["choices"])})


@dataclass(frozen=True)
class TrainedSpace:
    """All runs of a space's table, by network. ``test_percent`` averages over the seeds."""

    of: Tabular
    runs: Mapping[tuple[str, ...], list[Run]]

    @classmethod
    def read(cls, of: Tabular, path: Path | None = None) -> Self:
        """Raises UsageError where the table is not whole."""
        runs = read_runs(of, path)
        missing = len(of.networks) * len(of.seeds) - sum(map(len, runs.values()))
        if missing > 0:
            raise UsageError(
                f"{path or of.table} lacks {missing} trainings.",
                hint="Make them: python -m benchmarks.tabular_space --full",
            )
        return cls(of, runs)

    def test_percent(self, choices: Choices) -> float:
        """A network's accuracy on test images, mean of all seeds."""
        runs = self.runs[self.of.keys(choices)]
        return sum(run.test_percent for run in runs) / len(runs)


def read_runs(of: Tabular, path: Path | None = None) -> dict[tuple[str, ...], list[Run]]:
    """By network, what a table has; nothing where there is none."""
    runs: dict[tuple[str, ...], list[Run]] = {}
    path = path or of.table
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            run = Run.parse(json.loads(line))
            runs.setdefault(of.keys(run.choices), []).append(run)
    return runs
