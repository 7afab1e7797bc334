"""What trained a network is kept, and is said where it is not what trains here."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sample_documents import sample_documents
from support.toy_pipeline import ToyPipeline

from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.project import Project, open_project
from nasflow.commands.run import run_pipeline
from nasflow.commands.status import show_status
from pipeline.artifact import document_bytes
from stages.documents import MadeBy, SearchResult, TrainedNetworks
from stages.reporting.html import render_report
from stages.reporting.run_result import build_result
from stages.reporting.text import sentences
from stages.training.made_here import COMPUTERS, DECIDING, describe, differences, trained_by
from stages.training.makers import would_train

HERE = would_train()
ELSEWHERE = HERE.model_copy(
    update={"torch": "2.0.0", "processor": "Other CPU, x86_64", "threads": 1 + HERE.threads}
)


def documents(search: tuple[MadeBy, ...], finetune: tuple[MadeBy, ...]) -> dict[str, object]:
    found = sample_documents()
    assert isinstance(found["search"], SearchResult)
    trained = found["finetune"]
    assert isinstance(trained, TrainedNetworks)
    networks = tuple(network.model_copy(update={"made_by": finetune}) for network in trained.networks)
    return {
        **found,
        "search": found["search"].model_copy(update={"made_by": search}),
        "finetune": trained.model_copy(update={"networks": networks}),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text("seed: 5\n", encoding="utf-8")
    return tmp_path


def project(folder: Path, search: tuple[MadeBy, ...], finetune: tuple[MadeBy, ...]) -> Project:
    toy = ToyPipeline(documents=documents(search, finetune))
    return open_project(Selection(folder / "pipeline.yaml"), toy)


def test_status_says_what_differs_and_nothing_becomes_stale(folder: Path) -> None:
    chosen = project(folder, (HERE, ELSEWHERE), (HERE,))
    run_pipeline(RunOptions(), chosen)
    outcome = show_status(Selection(), chosen)
    assert all(stage["fresh"] for stage in outcome.document["stages"])
    differing = [
        f"torch 2.0.0 there and {HERE.torch} here",
        f"processor Other CPU, x86_64 there and {HERE.processor} here",
    ]
    assert outcome.document["made_elsewhere"] == {"search": differing}
    assert f"search was trained under other conditions ({'; '.join(differing)})." in outcome.text


def test_of_what_was_trained_here_or_is_not_recorded_nothing_is_said(folder: Path) -> None:
    chosen = project(folder, (HERE,), ())
    run_pipeline(RunOptions(), chosen)
    outcome = show_status(Selection(), chosen)
    assert outcome.document["made_elsewhere"] == {}
    assert "trained by" not in outcome.text


def test_how_many_threads_a_training_had_is_not_told_for_it_follows_from_the_number_of_networks(
    folder: Path,
) -> None:
    one = HERE.model_copy(update={"threads": 1 + HERE.threads})
    chosen = project(folder, (HERE,), (one,))
    run_pipeline(RunOptions(), chosen)
    outcome = show_status(Selection(), chosen)
    assert outcome.document["made_elsewhere"] == {}


@pytest.mark.parametrize("name", COMPUTERS)
def test_status_compares_each_thing_that_changes_the_numbers(folder: Path, name: str) -> None:
    there = HERE.model_copy(update={name: "other"})
    chosen = project(folder, (HERE,), (there,))
    run_pipeline(RunOptions(), chosen)
    elsewhere = show_status(Selection(), chosen).document["made_elsewhere"]
    assert elsewhere == {"finetune": differences(there, dict(HERE), (name,))}
    assert len(elsewhere["finetune"]) == 1


@pytest.mark.parametrize("name", DECIDING)
def test_each_thing_that_changes_the_numbers_is_a_difference(name: str) -> None:
    there = HERE.model_copy(update={name: 777 if name == "threads" else "other"})
    here = getattr(HERE, name) or "none"
    assert differences(there, dict(HERE), DECIDING) == [
        f"{name} {777 if name == 'threads' else 'other'} there and {here} here"
    ]
    assert differences(HERE, dict(HERE)) == []


def test_a_report_names_all_and_says_where_they_are_not_one() -> None:
    mixed = documents((HERE, ELSEWHERE), (HERE,))
    result = build_result(mixed)
    assert result.trained_by["search"] == (HERE, ELSEWHERE)
    (said,) = [sentence for subject, sentence in sentences(result) if subject == "Trained by"]
    assert f"{describe(HERE)} (search, finetune)" in said
    assert f"{describe(ELSEWHERE)} (search)" in said
    assert describe(ELSEWHERE) in render_report(mixed, result)

    alike = documents((HERE,), (HERE.model_copy(update={"omp_num_threads": "2"}),))
    result = build_result(alike)
    assert "Trained by" not in dict(sentences(result))
    assert f"Computed by {describe(HERE)}." in render_report(alike, result)


def test_documents_of_before_keep_their_bytes() -> None:
    for name, document in sample_documents().items():
        if name in ("search", "prune", "finetune", "baseline"):
            assert b"made_by" not in document_bytes(document)
            assert trained_by(document) == ()
