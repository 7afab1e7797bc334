"""A few hundred pictures of one's own: what does the search add to fine-tuning a published network?

Photos and drawings that nobody here made (:mod:`benchmarks._pictures`), in the splits of a cross-validation.
For each the whole pipeline runs with the configuration of ``examples/few_photos``: the found network against

(a) the whole network that the space was cut from, fine-tuned by the same recipe,
(b) random networks of equal latency, from the same pretrained weights,
(c) the found network from random weights, given as many passes over the images, the search's included.

The control searches with shuffled labels; what that finds is then trained as all others are, with true ones.
Everything is kept in this account's cache until the end: a second call goes on where the first was stopped.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks._ablation import Finished
from benchmarks._fresh_and_shuffled import with_fresh, with_shuffled_search
from benchmarks._hierarchical import Run, Score, difference, speedup
from benchmarks._pictures import DRAWINGS, PHOTOS, Package
from benchmarks._report import Bar, Outcome, above, at_least, main, say
from nasflow.assemble import build_stages, open_device
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from pipeline.reporters.reporters import PlainReporter
from pipeline.runner import Pipeline
from pipeline.store.store import Store
from stages.documents import Verification
from stages.verification.estimate import Estimate
from stages.verification.statistics import latency_ratio

EXAMPLE = Path(__file__).parents[1] / "examples" / "few_photos" / "pipeline.yaml"
RESOLUTION, FOLDS, RANDOM_NETWORKS = 128, 5, 5
SETS: Mapping[str, Package] = {"photos": PHOTOS, "drawings": DRAWINGS}
EPOCHS: Mapping[str, Sequence[str]] = {
    "photos": (),
    "drawings": (
        "search.warmup_epochs=2",
        "search.epochs=4",
        "search.architecture_every=2",
        "training.epochs=6",
    ),
}
"""Of some 1,300 training images fewer passes are enough than of 160."""
QUICK = ("verify.max_rounds=12",)
SPEEDUP, MARGIN_POINTS, OVER_FRESH_POINTS, BELOW_RANDOM_POINTS = 1.5, -3.0, 10.0, -1.0
FULL, FRESH = "lite0_full", "found_fresh"


def configuration(
    name: str, folder: Path, fold: int, seed: int, changes: Sequence[str] = ()
) -> PipelineConfig:
    """``examples/few_photos`` for a set's folder, at the benchmark's resolution, with random networks."""
    own = [f"seed={seed}", f"data.path={folder}", f"data.folds={FOLDS}", f"data.fold={fold}"]
    own += [f"space.resolution={RESOLUTION}", f"prune.random_networks={RANDOM_NETWORKS}"]
    own += ["baseline.widths=[0.35]"]  # from random weights: outside the verdict
    return load_config(PipelineConfig, EXAMPLE, [*own, *EPOCHS[name], *changes])


def run(full: bool) -> Outcome:
    """Photos, two splits; with ``full`` drawings too, five splits of two seeds. The control has one seed."""
    root = user_cache_path("nasflow") / "benchmarks" / f"own_images-{'full' if full else 'quick'}"
    say(f"own_images: results are kept in {root}")
    reporter = PlainReporter(sys.stderr)
    store = Store(root / "artifacts", reporter)  # of all runs: the latency model is that of all splits
    runs: dict[tuple[str, int, int], Run] = {}
    for name, fold, seed, control in order_of_runs(full):
        of_what = "control, labels shuffled before the search" if control else "all networks"
        say(f"own_images: {name}, split {fold}, seed {seed}: {of_what}")
        config = configuration(name, SETS[name].link(root / name), fold, seed, () if full else QUICK)
        stages = build_stages(config, root, open_device(config, root))
        if control:
            shuffled = with_shuffled_search(stages, root / f"{name}-shuffled-{fold}")
            controlled = Finished.run(Pipeline(shuffled, store, reporter))
            runs[name, fold, seed] = replace(runs[name, fold, seed], control=controlled)
        else:
            finished = Finished.run(Pipeline(with_fresh(stages, config), store, reporter))
            runs[name, fold, seed] = Run(name, fold, seed, finished)
        say(str(_row(runs[name, fold, seed])))
        say(f"own_images: {len(runs)} runs so far: {_figures(list(runs.values()))}")
    reporter.close()
    outcome = summarise(list(runs.values()), full=full)
    shutil.rmtree(root)
    return outcome


def order_of_runs(full: bool) -> list[tuple[str, int, int, bool]]:
    """Set, split, seed, whether it is the control. A seed of every split first: that says the most so far."""
    names, folds, seeds = (tuple(SETS), range(FOLDS), (0, 1)) if full else (("photos",), range(2), (0,))
    first, *further = ([(name, fold, seed, False) for name in names for fold in folds] for seed in seeds)
    controls = [(name, fold, seed, True) for name, fold, seed, _ in (first if full else first[:1])]
    return [*first, *controls, *chain.from_iterable(further)]


def summarise(runs: Sequence[Run], *, full: bool) -> Outcome:
    """Figures by run, by set and pooled, and the bars of the pooled ones."""
    figures: dict[str, Any] = {"runs": [_row(run) for run in runs]}
    for name in dict.fromkeys(run.name for run in runs):
        figures[name] = _figures([run for run in runs if run.name == name])
    pooled = figures["pooled"] = _figures(runs)
    return Outcome(figures, _bars(pooled) if full else [])


def _bars(pooled: Mapping[str, Any]) -> list[Bar]:
    return [
        above("speedup_over_full_lower_bound", pooled["speedup_over_full"][1], SPEEDUP),
        above("found_minus_full_points_lower_bound", pooled["found_minus_full_points"][1], MARGIN_POINTS),
        at_least("found_minus_fresh_points", pooled["found_minus_fresh_points"][0], OVER_FRESH_POINTS),
        at_least("found_minus_random_points", pooled["found_minus_random_points"][0], BELOW_RANDOM_POINTS),
        # What was found with shuffled labels must not be shown to be better than chance.
        Bar(
            "shuffled_minus_random_points_lower_bound",
            pooled["shuffled_minus_random_points"][1],
            0.0,
            pooled["shuffled_minus_random_points"][1] <= 0.0,
        ),
    ]


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    runs_of = {
        "found_minus_full_points": (runs, Score("found", (FULL,))),
        "found_minus_random_points": (runs, Score("found", None)),
        "found_minus_fresh_points": (runs, Score("found", (FRESH,))),
    }
    if controlled := [run for run in runs if run.control is not None]:
        runs_of["shuffled_minus_random_points"] = controlled, Score("found", None, of_control=True)
    return {
        "test_images": sum(run.finished.verification.test_images for run in runs if run.seed == 0),
        "speedup_over_full": _triple(speedup(runs, FULL)),
        **{
            name: [100 * value for value in _triple(difference(of_runs, score))]
            for name, (of_runs, score) in runs_of.items()
        },
    }


def _row(run: Run) -> dict[str, Any]:
    verified: Verification = run.finished.verification
    found, whole = (run.finished.verified(name).measurement for name in ("found", FULL))
    found_ms = found.median_ms
    randoms_ms = [run.finished.verified(name).measurement.median_ms for name in run.randoms]
    pruned = run.finished.pruned
    return {
        "set": run.name,
        "split": run.fold,
        "seed": run.seed,
        "test_images": verified.test_images,
        "accuracy_percent": {
            name: 100 * float(correct.mean()) for name, correct in run.finished.correct.items()
        },
        "validation_accuracy_percent": {
            network.name: network.validation_accuracy_percent
            for network in run.finished.trained("finetune", "baseline")
        },
        "images_seen": {
            network.name: network.images_seen for network in run.finished.trained("finetune", "baseline")
        },
        "found": list(pruned.found.choices),
        "median_ms": {"found": found_ms, FULL: whole.median_ms},
        "speedup_over_full": _triple(latency_ratio(found.round_medians_ms, whole.round_medians_ms).inverse()),
        "random_over_found_latency": sum(randoms_ms) / len(randoms_ms) / found_ms,
        "control": None if run.control is None else _control(run.control, whole.median_ms / found_ms),
    }


def _control(control: Finished, whole_over_found: float) -> dict[str, Any]:
    """What was found with shuffled labels. Timed on another occasion: over the whole network's time there."""
    found_ms, whole_ms = (control.verified(name).measurement.median_ms for name in ("found", FULL))
    return {
        "accuracy_percent": 100 * float(control.correct["found"].mean()),
        "found": list(control.pruned.found.choices),
        "latency_over_found": found_ms / whole_ms * whole_over_found,
    }


def _triple(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


if __name__ == "__main__":
    sys.exit(main("own_images", run))
