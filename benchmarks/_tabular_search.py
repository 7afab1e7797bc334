"""One supernet of a space that is all trained, and what every kind of search learns on it.

:mod:`benchmarks.search_vs_random` asks for them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from android_bench.device import BenchmarkRequest, RuntimeOptions
from benchmarks._drift import DriftingDevice
from benchmarks._kept_lines import Job
from benchmarks._tabular import CONTRAST, SPACES, TABULAR, Choices, Run, Tabular
from benchmarks._tabular_ruler import MINIMUM_SHARE, targets_ms
from benchmarks.tabular_space import one_thread, silent, train_network
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from pipeline.store.store import Store
from stages.data.config import open_dataset
from stages.nas.config import PruneConfig, SearchConfig
from stages.nas.targets import TargetConfig
from stages.space.network_name import network_name

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks._side_by_side import Learner
    from stages.documents import SearchResult
    from stages.nas.search_loop import SearchLoop

ESTIMATORS: Mapping[str, Mapping[str, Any]] = {
    "search": {},
    "search_one_target": {"targets": slice(1)},
    "window": {"estimator": "window"},
    "window_one_target": {"estimator": "window", "targets": slice(1)},
    "two_path": {"estimator": "two_path"},
    "reinforce": {"estimator": "reinforce"},
    "blind": {"losses": "noise"},
    "shuffled_labels": {"labels": "shuffled"},
}
"""How each kind differs from the first, which is the product's own search for eight targets."""
OWN_TARGETS = "search_own_targets"
"""The product's search once for each target, with all of its steps."""
KINDS = (*ESTIMATORS, OWN_TARGETS)
SEARCH: Mapping[str, SearchConfig] = {
    TABULAR.name: SearchConfig(warmup_epochs=2, epochs=4, learning_rate=0.025),
    CONTRAST.name: SearchConfig(warmup_epochs=13, epochs=27, learning_rate=0.025),
}
"""Of each space; about as many steps in both."""
PICK = PruneConfig()
TWO_PATH_PASSES = 4  # two forward passes, and a backward pass that takes about as long
NEVER = 10**9


@dataclass(frozen=True)
class Learned:
    """What one kind of search came to, for all targets: the log-probabilities and the most probable path.

    ``entropy``: of the probabilities for the first target, 0 (decided) to 1 (uniform). ``passes``: forward
    passes of networks in architecture steps; after them there are none.
    """

    log_probabilities: list[list[list[float]]]
    picks: list[Choices]
    entropy: float
    passes: int


@dataclass(frozen=True)
class Found:
    """All kinds of one supernet of a space. ``pruned`` is the product's pick for the first target.

    ``processor_seconds``: of the product's search and pick alone. ``training`` repeats one training of the
    table, so that its cost is known on the same machine.
    """

    space: str
    seed: int
    learned: dict[str, Learned]
    pruned: Choices
    processor_seconds: float
    training: Run
    training_processor_seconds: float

    @classmethod
    def parse(cls, read: Mapping[str, Any]) -> Self:
        """From what :func:`search_once` gave, kept as JSON."""
        learned = {
            kind: Learned(**{**of, "picks": [tuple(pick) for pick in of["picks"]]})
            for kind, of in read["learned"].items()
        }
        training = Run.parse(read["training"])
        return cls(**{**read, "learned": learned, "pruned": tuple(read["pruned"]), "training": training})


def simulated_ms(of: Tabular, request: BenchmarkRequest) -> float:
    """True times of the device on which candidates are measured: just what the latency model predicts."""
    by_name = {network_name(choices): choices for choices in of.paths}
    choices = by_name.get(request.name)
    return of.latency.reference.measurement.median_ms if choices is None else of.ms(choices)


def search_once(job: Job) -> dict[str, Any]:
    """A seed's supernet of a space, what is learned on it, the product's pick: a :class:`Found` for JSON."""
    from stages.nas.pick import pick_networks
    from stages.seeds import derived_seed

    of, seed = SPACES[str(job[0])], int(job[1])
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        context = Context("search", "", Store(Path(folder), silent), FleetingScratch(), silent)
        began = time.process_time()
        loop, learners = search_of(of, seed, context)
        results = dict(_results(loop, learners))
        seconds = time.process_time() - began
        seconds -= sum(one.processor_seconds for kind, one in learners.items() if kind != "search")
        began = time.process_time()
        pruned = pick_networks(
            PICK,
            TargetConfig(ms=targets_ms(of)[0]),
            of.data,
            seed,
            search=results["search"],
            latency=of.latency,
            device=DriftingDevice(partial(simulated_ms, of), seed=seed, throttle_at=NEVER),
            runtime=RuntimeOptions(),
            context=context,
        )
        seconds += time.process_time() - began
        learned = {
            kind: _learned(of, result, seed, context, learners[kind]) for kind, result in results.items()
        }
        learned[OWN_TARGETS] = _of_own_targets(learned)
        began = time.process_time()
        anyone = of.networks[derived_seed(seed, 9) % len(of.networks)]
        training = train_network(of.space, anyone, 0, of.data, of.recipe)
        found = Found(
            of.name, seed, learned, pruned.found.choices, seconds, training, time.process_time() - began
        )
    return asdict(found)


def loop_of(of: Tabular, seed: int, config: SearchConfig, context: Context) -> SearchLoop:
    """A search of a space that begins: its weights do not depend on what is learned."""
    from stages.nas.search_loop import SearchLoop, architecture_of
    from stages.nas.targets import latency_targets
    from stages.training.runtime import start_runtime

    runtime, data = start_runtime(seed), open_dataset(of.data)
    assert config.fair_share == 1, "the weights must not depend on what is learned"
    return SearchLoop(
        config,
        of.space,
        seed,
        architecture_of(of.space, of.latency),
        latency_targets(of.space, of.latency, targets_ms(of), MINIMUM_SHARE),
        context,
        runtime,
        data.load("train").batches(config.batch_size, runtime.device),
        data.load("architecture").batches(config.architecture_batch_size, runtime.device),
    )


def search_of(of: Tabular, seed: int, context: Context) -> tuple[SearchLoop, Mapping[str, Learner]]:
    """A finished search of a seed with all kinds side by side."""
    from benchmarks._side_by_side import SideBySide

    loop = loop_of(of, seed, SEARCH[of.name], context)
    learners = {kind: _learner(of, loop, seed, **changes) for kind, changes in ESTIMATORS.items()}
    for number in range(1, len(loop.targets)):
        learners[_own(number)] = _learner(of, loop, seed, targets=slice(number, number + 1))
    loop.learn_by(SideBySide(learners), learners["search"].architecture)
    loop.to_the_end()
    return loop, learners


def _own(number: int) -> str:
    """The learner that searches for the target of a number alone; for the first one there is one anyway."""
    return f"{OWN_TARGETS}_{number}" if number else "search_one_target"


def _learner(
    of: Tabular,
    loop: SearchLoop,
    seed: int,
    *,
    estimator: str = SearchConfig().estimator,
    targets: slice = slice(None),
    losses: str = "true",
    labels: str = "true",
) -> Learner:
    import torch

    from benchmarks._side_by_side import Learner
    from stages.nas.estimators import make_estimator
    from stages.nas.estimators.base import Searched
    from stages.nas.search_loop import architecture_of
    from stages.seeds import SearchStream, derived_seed

    config, architecture = loop.config, architecture_of(of.space, of.latency)
    steps = len(loop.training) // config.architecture_every * config.epochs
    searched = Searched(loop.targets[targets], steps, derived_seed(seed, SearchStream.ARCHITECTURE))
    generator = torch.Generator().manual_seed(seed)

    def noise(learned: Tensor) -> Tensor:
        return torch.randn(learned.shape, generator=generator, dtype=learned.dtype)

    def shuffled(labels_N: Tensor) -> Tensor:
        return labels_N[torch.randperm(len(labels_N), generator=generator)]

    changes: dict[str, Any] = {}
    if losses == "noise":
        changes["losses"] = noise
    if labels == "shuffled":
        changes["labels"] = shuffled
    return Learner(
        make_estimator(config.model_copy(update={"estimator": estimator}), architecture, searched),
        architecture,
        loop.targets[targets],
        passes_of=(lambda _pairs: TWO_PATH_PASSES) if estimator == "two_path" else len,
        **changes,
    )


def _results(loop: SearchLoop, learners: Mapping[str, Learner]) -> Iterator[tuple[str, SearchResult]]:
    """What the search would have given with each kind alone."""
    for kind, learner in learners.items():
        loop.learn_by(learner.estimator, learner.architecture)
        loop.targets = learner.targets
        yield kind, loop.to_the_end()


def _learned(of: Tabular, result: SearchResult, seed: int, context: Context, learner: Learner) -> Learned:
    """For all targets, as the product has it: also for such as were not searched for."""
    from stages.nas.ranking import Ranking

    ranking, targets = Ranking(MINIMUM_SHARE, seed, result, of.latency, context), targets_ms(of)
    rows: Sequence[list[list[float]]] = [
        [list(row) for row in ranking.log_probabilities(target_ms)] for target_ms in targets
    ]
    picks = [ranking.best(target_ms, 1)[0] for target_ms in targets]
    return Learned(list(rows), picks, learner.architecture.entropy(), learner.passes)


def _of_own_targets(learned: dict[str, Learned]) -> Learned:
    """Each target's search in its place, instead of the searches for single targets."""
    first = learned["search_one_target"]
    alone = [first, *(learned.pop(_own(number)) for number in range(1, len(first.picks)))]
    return replace(
        first,
        log_probabilities=[of.log_probabilities[number] for number, of in enumerate(alone)],
        picks=[of.picks[number] for number, of in enumerate(alone)],
    )
