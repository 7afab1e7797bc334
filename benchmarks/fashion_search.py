"""On the quick start's own space: is the found network better than random ones of equal latency?

For each seed the pipeline runs until its networks are trained: the found one and five random networks of its
predicted latency, from fresh weights by one recipe. Beside it the same with epochs as few as a slow
computer's (``training.budget_minutes``): one each of the search and of all trainings. Right and wrong
answers are those of PyTorch on the test images. Latency is the model's, so that other programs at work do
not matter. Everything is kept in this account's cache until the end: a second call goes on where the first
was stopped.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from platformdirs import user_cache_path

from benchmarks._report import Outcome, above, main, say
from nasflow.assemble import build_stages, open_device
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from pipeline.reporters.reporters import PlainReporter
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.data.config import open_dataset
from stages.documents import PrunedNetworks, TrainedNetworks
from stages.verification.statistics import difference_from_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.data.config import DataConfig

SEEDS, RANDOM_NETWORKS = (0, 1, 2, 3, 4), 5
CONFIGURED, SHORT = "as_configured", "one_epoch"
SEARCHES: Mapping[str, Sequence[str]] = {
    CONFIGURED: ("training.epochs=3",),
    SHORT: ("search.epochs=1", "training.epochs=1"),
}
SETTINGS = (
    f"prune.random_networks={RANDOM_NETWORKS}",
    "training.start=fresh",
    "training.budget_minutes=null",
)
QUICK = ("data.train_images=3000", "search.epochs=1", "training.epochs=1")


@dataclass(frozen=True)
class Searched:
    """One search and the networks that were trained after it; ``correct[name]``: [test images]."""

    pruned: PrunedNetworks
    correct: Mapping[str, NDArray[np.bool_]]

    @classmethod
    def run(cls, config: PipelineConfig, store: Store, folder: Path, reporter: PlainReporter) -> Self:
        """Run what is not done yet, until the networks are trained."""
        stages = build_stages(config, folder, open_device(config, folder))
        with store.lock():
            documents = Pipeline(stages, store, reporter).run(until="finetune")
            pruned, trained = documents["prune"], documents["finetune"]
            assert isinstance(pruned, PrunedNetworks)
            assert isinstance(trained, TrainedNetworks)
            return cls(pruned, _answers(trained, store, config.data))

    @property
    def randoms(self) -> NDArray[np.bool_]:
        """[random networks, images]."""
        import numpy as np

        return np.stack([self.correct[network.name] for network in self.pruned.randoms])

    def row(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "accuracy_percent": {name: 100 * float(right.mean()) for name, right in self.correct.items()},
            "found": list(self.pruned.found.choices),
            "predicted_ms": self.pruned.found.predicted_ms,
        }


def _answers(trained: TrainedNetworks, store: Store, data: DataConfig) -> dict[str, NDArray[np.bool_]]:
    """Which test images each network classifies correctly."""
    import torch

    from stages.nn.network import load_network

    images = open_dataset(data).load("test").batches(500, torch.device("cpu"))
    correct: dict[str, NDArray[np.bool_]] = {}
    with torch.inference_mode():
        for of in trained.networks:
            network = load_network(of.net, store.read_bytes(of.weights)).eval()
            right = [network(x_NCHW).argmax(1) == labels_N for x_NCHW, labels_N in images.in_order()]
            correct[of.name] = torch.cat(right).numpy()
    return correct


def configuration(seed: int, search: str, *, full: bool) -> PipelineConfig:
    """The quick start's ``pipeline.yaml`` with a few epochs of training, and random networks."""
    changes = [f"seed={seed}", *SETTINGS, *SEARCHES[search], *(() if full else QUICK)]
    return load_config(PipelineConfig, Path(__file__).parents[1] / "pipeline.yaml", changes)


def run(full: bool) -> Outcome:
    """Five seeds; without ``full`` one of few images."""
    root = user_cache_path("nasflow") / "benchmarks" / f"fashion_search-{'full' if full else 'quick'}"
    say(f"fashion_search: results are kept in {root}")
    reporter = PlainReporter(sys.stderr)
    store = Store(root / "artifacts", reporter)
    runs: dict[str, list[Searched]] = {name: [] for name in SEARCHES}
    for seed in SEEDS if full else SEEDS[:1]:
        for name, of_search in runs.items():
            say(f"fashion_search: seed {seed}, {name}")
            of_search.append(Searched.run(configuration(seed, name, full=full), store, root, reporter))
            say(str(of_search[-1].row()))
    reporter.close()
    outcome = summarise(runs, full=full)
    shutil.rmtree(root)
    return outcome


def summarise(runs: Mapping[str, Sequence[Searched]], *, full: bool) -> Outcome:
    """Both searches' finds against the random networks of the same seed, in percentage points."""
    import numpy as np

    figures: dict[str, Any] = {
        "runs": {name: [one.row() for one in of_search] for name, of_search in runs.items()},
    }
    for name, of_search in runs.items():
        found = np.stack([one.correct["found"] for one in of_search])
        randoms = np.stack([one.randoms for one in of_search])
        # Between random networks of one latency, the variation of trainings included.
        deviation = 100 * float(randoms.mean(axis=2).std(axis=1, ddof=1).mean())
        figures[f"{name}_random_deviation_points"] = deviation
        lead = difference_from_mean(found, randoms)
        figures[f"{name}_minus_random_points"] = [100 * value for value in (lead.value, lead.low, lead.high)]
    bar = above("as_configured_minus_random_points", figures["as_configured_minus_random_points"][0], 0.0)
    return Outcome(figures, [bar] if full else [])


if __name__ == "__main__":
    sys.exit(main("fashion_search", run))
