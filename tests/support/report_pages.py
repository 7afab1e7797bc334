"""Reports of sample runs, as a browser would open them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from support.sample_documents import of_few_photos, sample_documents, sample_folds, searched_by_pairs

from stages.reporting.html import render_report
from stages.reporting.result import RunFacts, build_result
from stages.verification.folds import cross_validation

FACTS = RunFacts(
    seed=17,
    dataset="fashion_mnist",
    nasflow_version="0.1.0",
    python_version="3.11.2",
    packages={"torch": "2.13.0"},
)


def ten_classes() -> str:
    """Small grey images of ten classes, all MobileNetV2s."""
    documents = sample_documents()
    return render_report(documents, build_result(documents, FACTS))


def few_photos() -> str:
    """Few photos, published weights, cross-validation, and a search in which latency has a price."""
    documents = searched_by_pairs(of_few_photos(sample_documents()))
    folds = cross_validation(sample_folds())
    return render_report(documents, build_result(documents, FACTS, folds))


PAGES: Mapping[str, Callable[[], str]] = {"ten_classes": ten_classes, "few_photos": few_photos}
