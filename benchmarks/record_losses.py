"""Record what every path of a small space loses in a search, at every second architecture step.

Supernets are trained as :mod:`benchmarks.search_vs_random` does it: every path equally often, so that weights
do not depend on what a rule would have learned. In every second architecture step the losses of all paths on
that step's own images are recorded, with true and with shuffled labels. :mod:`benchmarks.search_rules`
replays rules on them. ``--full`` writes the file of ``benchmarks/data`` that is not there, on all cores; it
goes on where it was stopped. The quick form records one short search and writes nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._kept_lines import Job, KeptLines
from benchmarks._report import Outcome, at_least, main, say
from benchmarks._tabular import CONTRAST, FOLDER, SPACES, Tabular
from benchmarks._tabular_search import SEARCH, loop_of
from benchmarks.tabular_space import one_thread, silent
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.nas.config import SearchConfig
from stages.nas.estimators.base import SeenImages
from stages.search import Search

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from stages.nas.architecture import Architecture
    from stages.nn.supernet import Supernet
    from stages.training.optimisation import Loss

    Array = NDArray[np.float64]

CHOSEN_BY, CONFIRMED_BY = (100, 101, 102, 103), tuple(range(8))
"""Seeds of supernets: constants of rules are chosen by the first, and confirmed by the others."""
UNIT = 1 / 2000  # nats: losses are kept as whole numbers of it, at most 65,535
STEPS_OF_A_ROW = 2
QUICK = SearchConfig(warmup_epochs=0, epochs=1, learning_rate=0.025)


def losses_file(of: Tabular) -> Path:
    """Where a space's recorded losses lie: (rows, paths) for each supernet, ``true_N`` and ``shuffled_N``."""
    return FOLDER / f"{of.name}_losses.npz"


@cache
def recorded(of: Tabular, kind: str, supernet: int) -> Array:
    """(rows, paths): the loss in nats of every path on a step's images; ``true`` or ``shuffled``."""
    import numpy as np

    with np.load(losses_file(of)) as file:
        found: Array = file[f"{kind}_{supernet}"] * UNIT
    return found


def recorded_spaces(benchmark: str) -> Iterator[Tabular]:
    """The spaces with recorded losses and all trainings; says which ``benchmark`` has to leave out."""
    for of in SPACES.values():
        if losses_file(of).exists() and of.table.exists():
            yield of
        else:
            say(f"{benchmark}: {of.name} is left out: record_losses and tabular_space make what it needs")


@dataclass
class Recording:
    """See :class:`stages.nas.estimators.base.Estimator`: it looks at all paths, and learns nothing."""

    generator: torch.Generator
    rows: dict[str, list[list[int]]] = field(default_factory=lambda: {"true": [], "shuffled": []})
    step: int = 0
    multiplier = None

    def draw(self, architecture: Architecture, generator: torch.Generator) -> tuple[()]:
        """Nothing is drawn."""
        del architecture, generator
        return ()

    def evaluate(
        self,
        supernet: Supernet,
        architecture: Architecture,
        x_NCHW: Tensor,
        labels_N: Tensor,
        draws: tuple[()],
        loss_of: Loss | None = None,
    ) -> SeenImages:
        """Every path's cross entropy on the same images, in every second step."""
        import torch

        del architecture, draws, loss_of
        if self.step % STEPS_OF_A_ROW == 0:
            shuffled_N = labels_N[torch.randperm(len(labels_N), generator=self.generator)]
            with torch.no_grad(), supernet.architecture_step():
                true_P, shuffled_P = losses_of_all(supernet, x_NCHW, (labels_N, shuffled_N))
            self.rows["true"].append([round(loss / UNIT) for loss in true_P])
            self.rows["shuffled"].append([round(loss / UNIT) for loss in shuffled_P])
        self.step += 1
        return SeenImages(0.0, 0, len(labels_N))

    def learn(self, architecture: Architecture, draws: tuple[()], seen: SeenImages) -> None:
        """Nothing."""

    def expected_ms(self, architecture: Architecture) -> float:
        """Of the probabilities as they are."""
        return architecture.expected_ms()

    def further_log_probabilities(self) -> list[list[list[float]]]:
        """None."""
        return []

    def evaluations(self) -> None:
        """None."""

    def state(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing was kept."""


def losses_of_all(supernet: Supernet, x_NCHW: Tensor, labels: Sequence[Tensor]) -> list[list[float]]:
    """For each row of labels (N,) the loss of every path, in the order of their choices.

    What paths begin with alike is computed once.
    """
    from torch.nn import functional

    found: list[list[float]] = [[] for _ in labels]

    def follow(x_NCHW: Tensor, layer: int) -> None:
        if layer == len(supernet.layers):
            logits = supernet.classifier(supernet.head(x_NCHW))
            for losses, labels_N in zip(found, labels, strict=True):
                losses.append(float(functional.cross_entropy(logits, labels_N)))
            return
        for candidate in supernet.layers[layer].candidates:  # type: ignore[union-attr]
            follow(candidate(x_NCHW), layer + 1)

    follow(supernet.stem(x_NCHW), 0)
    return found


def record(of: Tabular, seed: int, config: SearchConfig) -> dict[str, list[list[int]]]:
    """One supernet's rows, of true and of shuffled labels."""
    import torch

    with one_thread(), tempfile.TemporaryDirectory() as folder:
        context = Context("search", "", Store(Path(folder), silent), FleetingScratch(), silent)
        loop = loop_of(of, seed, config, context)
        recording = Recording(torch.Generator().manual_seed(seed))
        loop.learn_by(recording, loop.architecture)
        loop.to_the_end()
    return recording.rows


def record_job(job: Job) -> dict[str, list[list[int]]]:
    """One supernet of a space, by its seed."""
    of = SPACES[str(job[0])]
    return record(of, int(job[1]), SEARCH[of.name])


def run(full: bool) -> Outcome:
    """Record what no file has yet, or look at one short search."""
    import numpy as np

    if not full:
        rows = record(CONTRAST, 0, QUICK)
        true, shuffled = (UNIT * float(np.mean(rows[kind])) for kind in ("true", "shuffled"))
        return Outcome(
            {"rows": len(rows["true"]), "mean_loss": true, "mean_loss_of_shuffled_labels": shuffled}
        )
    figures, bars = {}, []
    for of in SPACES.values():
        if not losses_file(of).exists():
            write(of)
        with np.load(losses_file(of)) as file:
            supernets = len(file.files) // 2
        figures[of.name] = {"supernets": supernets}
        bars.append(at_least(f"{of.name}_supernets", supernets, len(CHOSEN_BY) + len(CONFIRMED_BY)))
    return Outcome(figures, bars)


def write(of: Tabular) -> None:
    """All supernets of a space, into its file."""
    import numpy as np

    decided_by = [
        SEARCH[of.name].model_dump_json(),
        of.space.model_dump_json(),
        f"{of.data!r} {Search.version}",
    ]
    kept = KeptLines(f"{of.name}_losses", decided_by)
    jobs: list[Job] = [(of.name, seed) for seed in (*CHOSEN_BY, *CONFIRMED_BY)]
    tables = {
        f"{kind}_{seed}": np.array(rows, dtype=np.uint16)
        for (_, seed), kinds in kept.results(jobs, record_job)
        for kind, rows in kinds.items()
    }
    np.savez_compressed(losses_file(of), allow_pickle=False, **tables)
    kept.finish()


if __name__ == "__main__":
    sys.exit(main("record_losses", run))
