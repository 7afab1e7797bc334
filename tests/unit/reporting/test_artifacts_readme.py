"""``artifacts/README.md`` describes every stored document, field by field, and nothing else."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from nasflow.publish import FILES, MANIFEST, Manifest
from pipeline.artifact import Document
from pipeline.store.records import StageRecord
from stages import documents
from stages.latency.exchange import LatencyFile
from stages.packaging.provenance import Provenance
from stages.reporting.result import ResultDocument

README = Path(__file__).parents[3] / "artifacts" / "README.md"


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def all_models() -> dict[str, type[BaseModel]]:
    """Every model that is stored, those within other models included, by name."""
    outputs = [
        member
        for member in vars(documents).values()
        if isinstance(member, type) and issubclass(member, Document) and member is not Document
    ]
    found: dict[str, type[BaseModel]] = {}
    within_blobs = [documents.PathEvaluations]
    todo: list[type[BaseModel]] = [
        *outputs, *within_blobs, LatencyFile, ResultDocument, StageRecord, Manifest, Provenance
    ]  # fmt: skip
    while todo:
        model = todo.pop()
        if model.__name__ in found:
            assert found[model.__name__] is model, f"two models are called {model.__name__}"
            continue
        found[model.__name__] = model
        todo += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
    return found


MODELS = all_models()


def sections() -> dict[str, list[str]]:
    """The field names of each section's table, by the section's name."""
    parts = re.split(r"^### `(\w+)`$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    names, bodies = parts[::2], parts[1::2]
    assert len(names) == len(set(names))
    return {
        name: re.findall(r"^\| `(\w+)` \| \S", body.split("\n## ")[0], flags=re.MULTILINE)
        for name, body in zip(names, bodies, strict=True)
    }


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_stored_model_is_described_field_by_field_in_its_order(name: str) -> None:
    assert sections()[name] == list(MODELS[name].model_fields)


def test_nothing_is_described_that_is_not_stored() -> None:
    assert set(sections()) == set(MODELS)


def test_every_link_leads_to_a_section() -> None:
    text = README.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


@pytest.mark.parametrize(
    "name", ["objects/", "records/", "scratch/", "runs/", "latest/", "lock", *FILES, MANIFEST]
)
def test_the_layout_names_every_folder_and_file(name: str) -> None:
    layout = README.read_text(encoding="utf-8").split("## Layout")[1].split("\n## ")[0]
    assert f"`{name}" in layout
