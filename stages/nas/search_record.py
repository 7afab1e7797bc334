"""What is kept and told of a search: each of its epochs, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pipeline.artifact import Blob
from pipeline.stage import BlobStore, Context
from stages.documents import PathEvaluations, SearchEpoch, SearchResult, TargetProbabilities
from stages.nas.architecture import Architecture
from stages.nas.estimators.base import Estimator
from stages.nas.latency_window import LatencyTarget
from stages.nas.rules.posterior import agreement
from stages.nas.search_state import Progress, SearchState
from stages.nn.network import save_weights
from stages.nn.weights_source import origin_of
from stages.space.search_space import SearchSpace

SearchPhase = Literal["warm-up", "search"]


def epoch_point(
    phase: SearchPhase, now: Progress, architecture: Architecture, estimator: Estimator[Any]
) -> SearchEpoch:
    """The epoch that ends ``now``."""
    return SearchEpoch(
        epoch=now.epoch,
        phase=phase,
        train_loss=now.train_loss_sum / max(1, now.step),
        validation_loss=now.pair_loss_sum / max(1, now.pair_steps),
        validation_accuracy_percent=100.0 * now.pair_correct / max(1, now.pair_images),
        expected_ms=estimator.expected_ms(architecture),
        multiplier=estimator.multiplier,
        entropy=architecture.entropy(),
        probabilities=tuple(tuple(p.tolist()) for p in architecture.probabilities()),
        seconds=now.epoch_seconds,
    )


def tell_epoch(point: SearchEpoch, space: SearchSpace, context: Context) -> None:
    """Tell the curves' points, and the probabilities of each layer that is searched."""
    for index, layer in enumerate(space.layers()):
        if len(layer.blocks) > 1:
            labels = [layer.label(choice) for choice in range(len(layer.blocks))]
            shares = [round(share, 4) for share in point.probabilities[index]]
            context.distribution(f"layer {index + 1}", labels, shares, point.epoch)
    context.metric("search expected ms", point.expected_ms, point.epoch)
    context.metric("search validation accuracy %", point.validation_accuracy_percent, point.epoch)


def search_result(
    estimator: str,
    space: SearchSpace,
    targets: Sequence[LatencyTarget],
    state: SearchState,
    store: BlobStore,
) -> SearchResult:
    """What a search that has taken all its steps found; its weights and evaluations go into the store."""
    architecture = state.architecture
    rows = tuple(tuple(p.log().tolist()) for p in architecture.probabilities())
    return SearchResult(
        space=space,
        pretrained=None if space.pretrained is None else origin_of(space.pretrained),
        target_ms=targets[0].target_ms,
        log_probabilities=rows,
        agreement=agreement(rows) if estimator == "posterior" else None,
        further=_further(state.estimator, targets),
        estimator=estimator,
        evaluations=_kept_evaluations(state.estimator, store),
        expected_ms=state.estimator.expected_ms(architecture),
        supernet=store.put_bytes(save_weights(state.supernet), ".safetensors"),
        history=tuple(state.history),
        seconds=state.now.seconds,
        compute_cost=state.compute_cost.total(),
        made_by=state.makers.all,
    )


def _further(estimator: Estimator[Any], targets: Sequence[LatencyTarget]) -> tuple[TargetProbabilities, ...]:
    learned = estimator.further_log_probabilities()
    return tuple(
        TargetProbabilities(target_ms=target.target_ms, log_probabilities=tuple(map(tuple, rows)))
        for target, rows in zip(targets[1:], learned, strict=False)
    )


def _kept_evaluations(estimator: Estimator[Any], store: BlobStore) -> Blob | None:
    seen = estimator.evaluations()
    if seen is None:
        return None
    kept = PathEvaluations(
        step=tuple(seen.step_N.tolist()),
        choices=tuple(map(tuple, seen.paths_NL.tolist())),
        value=tuple(seen.observed_N.tolist()),
        noise=tuple(seen.noise_N.tolist()),
    )
    return store.put_bytes(kept.model_dump_json().encode(), ".json")
