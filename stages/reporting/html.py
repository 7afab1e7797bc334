"""``report.html``: one file that needs nothing else, neither scripts nor fonts nor a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.base.text import plain_line
from pipeline.artifact import Document
from stages.documents import Role, TrainedNetwork, Verification
from stages.reporting.accuracy_text import (
    balance_matters,
    classes_sentence,
    speedup_terms,
    test_images_sentence,
)
from stages.reporting.conditions import Phase, phases
from stages.reporting.cost import FINDING, PARTS, TRAINING
from stages.reporting.folds_text import class_rows, folds_sentences
from stages.reporting.images_text import class_parts, images_sentences
from stages.reporting.notation import ROLES, amount, hours, milliseconds, signed
from stages.reporting.precisions import HEADINGS, precision_rows
from stages.reporting.provenance import provenance
from stages.reporting.result import ResultDocument
from stages.reporting.run_documents import RunDocuments
from stages.reporting.text import headline, sentences, verdict_reason
from stages.reporting.thumbnails import Thumbnail, Thumbnails
from stages.space.block_spec import BlockSpec
from stages.space.weights_origin import WeightsOrigin
from stages.verification.prediction import not_as_expected

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
_OF_THE_SEARCH = ("Certainty", "Search cost", "Supernet")
_SAID_ELSEWHERE = (*_OF_THE_SEARCH, "Found", "Verdict", "Folds", "Test images", "Classes")
FULL_WIDTH, HALF_WIDTH, _PHONE = 960.0, 466.0, 344.0  # CSS pixels; the style sheet's columns


def render_report(
    documents: Mapping[str, Document], result: ResultDocument, shown_images: Thumbnails | None = None
) -> str:
    """The report as HTML; equal documents give equal text. ``shown_images``: copies of test images.

    Raises UsageError where a stage's document is missing.
    """
    from stages.reporting.cross_page import cross_view
    from stages.reporting.figures.classes import MOST_ROWS
    from stages.reporting.figures.evolution import candidate_legend
    from stages.reporting.figures.series import CLASSES

    run = RunDocuments.of(documents)
    environment = page_templates()
    environment.filters.update(ms=milliseconds, amount=amount, signed=signed)
    environment.filters.update(hours=hours, ranks=_ranks)
    environment.filters["speedup_terms"] = speedup_terms
    folds = result.cross_validation
    return environment.get_template("report.html.j2").render(
        run=run,
        result=result,
        headline=headline(result),
        sentences=[pair for pair in sentences(result) if pair[0] not in _SAID_ELSEWHERE],
        search_sentences=[pair for pair in sentences(result) if pair[0] in _OF_THE_SEARCH],
        cost_groups=[("To find the network", FINDING), ("To train and to verify", (*TRAINING, "verify"))],
        cost_parts=PARTS,
        candidates=candidate_legend(run.search.space),
        extras={extra for block in run.search.space.distinct_blocks() for extra in block.extras},
        verdict_reason=verdict_reason(result),
        shown=test_images_sentence(result),
        balanced=balance_matters(result.verification.networks),
        classes_words=classes_sentence(result),
        most_rows=MOST_ROWS,
        images_words=images_sentences(result.images) if result.images else [],
        class_parts=class_parts(result.images) if result.images else (),
        weights=_weights(run),
        folds=folds,
        fold_classes=class_rows(folds) if folds else [],
        folds_words=folds_sentences(folds) if folds else [],
        promised=not_as_expected(result.verification.found_latency),
        roles={role: words for role, words in ROLES.items() if role in _present(run)},
        markers=_markers(),
        strokes=CLASSES,
        figures=_figures(run, result),
        image_groups=_image_groups(shown_images),
        device_phases=phases(run),
        kernels=kernel_legend(run.search.space.distinct_blocks()),
        provenance=provenance(run),
        measured_at=_measured_at(run.verify),
        conditions=_conditions(run.verify),
        found_check=run.found_conversion.file().check,
        file_headings=HEADINGS,
        file_rows=precision_rows(result.precisions),
        cross=cross_view(result.cross_table) if result.cross_table else None,
    )


def page_templates() -> Environment:
    """The templates of pages. Foreign text is escaped; the filter ``plain`` makes it one harmless line."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain_line
    return environment


def _figures(run: RunDocuments, result: ResultDocument) -> dict[str, Markup]:
    """Every figure twice: for the page's width and for a phone's; the style sheet shows one."""
    from stages.reporting.figures.architecture import architecture_figure
    from stages.reporting.figures.classes import class_accuracy_figure, confusion_figure
    from stages.reporting.figures.durations import durations_figure
    from stages.reporting.figures.evolution import evolution_figure
    from stages.reporting.figures.layers import layers_figure
    from stages.reporting.figures.prediction import prediction_figure
    from stages.reporting.figures.rounds import rounds_figure
    from stages.reporting.figures.search import (
        entropy_figure,
        expected_latency_figure,
        multiplier_figure,
        probabilities_figure,
        supernet_accuracy_figure,
    )
    from stages.reporting.figures.tradeoff import tradeoff_figure
    from stages.reporting.figures.training import accuracy_figure, loss_figure

    trained = _in_order(run)
    drawn: dict[str, tuple[float, Callable[[float], Markup]]] = {
        "architecture": (
            FULL_WIDTH,
            lambda w: architecture_figure(run.found.net, run.search.space, run.latency, width=w),
        ),
        "layers": (
            FULL_WIDTH,
            lambda w: layers_figure(run.search.space, run.latency, run.prune.found.choices, width=w),
        ),
        "tradeoff": (FULL_WIDTH, lambda w: tradeoff_figure(run.verify, width=w)),
        "prediction": (HALF_WIDTH, lambda w: prediction_figure(run.latency, run.verify.networks, width=w)),
        "rounds": (HALF_WIDTH, lambda w: rounds_figure(run.verify.networks, width=w)),
        "loss": (HALF_WIDTH, lambda w: loss_figure(trained, width=w)),
        "accuracy": (HALF_WIDTH, lambda w: accuracy_figure(trained, width=w)),
        "expected_latency": (HALF_WIDTH, lambda w: expected_latency_figure(run.search, width=w)),
        "entropy": (HALF_WIDTH, lambda w: entropy_figure(run.search, width=w)),
        "supernet": (HALF_WIDTH, lambda w: supernet_accuracy_figure(run.search, width=w)),
        "evolution": (
            FULL_WIDTH,
            lambda w: evolution_figure(run.search, run.prune.found.choices, width=w),
        ),
        "probabilities": (
            FULL_WIDTH,
            lambda w: probabilities_figure(run.search, run.prune.found.choices, width=w),
        ),
    }
    if run.search.history[-1].multiplier is not None:
        drawn["multiplier"] = (HALF_WIDTH, lambda w: multiplier_figure(run.search, width=w))
    if classes := result.verification.classes:
        drawn |= {
            "class_accuracy": (
                FULL_WIDTH,
                lambda w: class_accuracy_figure(classes, run.reference.role, width=w),
            ),
            "confusion_found": (HALF_WIDTH, lambda w: confusion_figure(run.found, classes, width=w)),
            "confusion_reference": (HALF_WIDTH, lambda w: confusion_figure(run.reference, classes, width=w)),
        }
    for number, phase in enumerate(phases(run)):
        drawn[f"conditions_{number}"] = (HALF_WIDTH, partial(_drawn_phase, phase))
    if seconds := result.stage_seconds:
        drawn["durations"] = (FULL_WIDTH, lambda w: durations_figure(seconds, width=w))
    return {name: twice(draw, wide) for name, (wide, draw) in drawn.items()}


def twice(draw: Callable[[float], Markup], wide: float) -> Markup:
    """A drawing for the page's width and one for a phone's; the style sheet shows one of them."""
    from markupsafe import Markup

    template = Markup('<div class="wide">{}</div><div class="narrow">{}</div>')
    return template.format(draw(wide), draw(_PHONE))


def _drawn_phase(phase: Phase, width: float) -> Markup:
    from stages.reporting.figures.conditions import conditions_figure

    return conditions_figure(phase, width=width)


def _image_groups(shown: Thumbnails | None) -> list[tuple[str, tuple[Thumbnail, ...]]]:
    if shown is None:
        return []
    groups = [("Surest wrong answers", shown.wrong), ("Surest right answers", shown.right)]
    return [(title, images) for title, images in groups if images]


def _in_order(run: RunDocuments) -> list[TrainedNetwork]:
    """Found and random networks last, so that they are drawn above the others."""
    trained = [*run.finetune.networks, *run.baseline.networks]
    return sorted(trained, key=lambda network: (network.role == "found", network.role == "random"))


def _weights(run: RunDocuments) -> list[WeightsOrigin]:
    """The published weights that something in this run started from, each once."""
    origins = [run.search.pretrained, *(network.pretrained for network in run.verify.networks)]
    return list(dict.fromkeys(origin for origin in origins if origin is not None))


def _present(run: RunDocuments) -> set[Role]:
    return {network.role for network in run.verify.networks}


def _markers() -> dict[Role, Markup]:
    from stages.reporting.figures.series import marker
    from stages.reporting.figures.svg import element

    return {
        role: element(
            "svg", marker(role, 9, 9, size=5), viewBox="0 0 18 18", width=14, height=14, aria_hidden="true"
        )
        for role in ROLES
    }


def kernel_legend(blocks: Iterable[BlockSpec]) -> list[tuple[str, str]]:
    """The legend of a drawing: style class and words of every kernel that blocks of layers have."""
    sizes = {block.kernel for block in blocks if block.searchable}
    classes: dict[str, list[int]] = {"k3": [], "k5": [], "k7": []}
    for size in sorted(sizes):
        classes["k3" if size <= 3 else "k5" if size <= 5 else "k7"].append(size)
    return [(style, ", ".join(f"{k}×{k}" for k in found)) for style, found in classes.items() if found]


def _ranks(values: Iterable[float]) -> list[str]:
    """1 for the highest; equal values share their mean rank."""
    seen = list(values)
    indices = [
        sum(other > value for other in seen) + (1 + sum(other == value for other in seen)) / 2
        for value in seen
    ]
    return [f"{index:g}" for index in indices]


def _measured_at(verification: Verification) -> str:
    moments: list[datetime] = [
        n.measurement.conditions.at for n in verification.networks if n.measurement.conditions
    ]
    return f"{max(moments):%Y-%m-%d %H:%M} {max(moments).tzname() or ''}".strip() if moments else ""


def _conditions(verification: Verification) -> list[tuple[str, str]]:
    """The device's state around the last round, as far as it could be read."""
    last = [n.measurement.conditions for n in verification.networks if n.measurement.conditions]
    if not last:
        return []
    state = max(last, key=lambda conditions: conditions.at)
    known = (
        ("Latencies are of", state.describe_cores() or None),
        ("Load, 1 min", None if state.load_1min is None else f"{state.load_1min:.2f}"),
        ("Clock rate of the fastest cores", None if state.cpu_mhz is None else f"{state.cpu_mhz:.0f} MHz"),
        ("Clock rate of the GPU", None if state.gpu_mhz is None else f"{state.gpu_mhz:.0f} MHz"),
        ("GPU", None if state.gpu_celsius is None else f"{state.gpu_celsius:.0f} °C"),
        ("Slowed down by", ", ".join(state.throttled_by or ()) or None),
        ("Other programs on the GPU", None if state.other_programs is None else str(state.other_programs)),
        ("Skin", None if state.skin_celsius is None else f"{state.skin_celsius:.1f} °C"),
        ("Battery", None if state.battery_percent is None else f"{state.battery_percent:.0f} %"),
    )
    return [(name, value) for name, value in known if value is not None]
