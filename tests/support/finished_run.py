"""Finished runs for shipping: real documents, store and network file, by stages that do no work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.sample_documents import sample_documents
from support.small_classifiers import small_classifier
from support.toy_pipeline import ToyPipeline

from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from pipeline.artifact import Document, sha256_hex
from stages.documents import ConvertedNetworks, Verification

FLOAT32 = small_classifier(10)


def with_model(
    documents: Mapping[str, Document], model: bytes
) -> tuple[dict[str, Document], dict[str, bytes]]:
    """The documents, their found network's file a real model; and what the blob holds."""
    convert, verify = documents["convert"], documents["verify"]
    assert isinstance(convert, ConvertedNetworks)
    assert isinstance(verify, Verification)
    (found,) = (network for network in convert.networks if network.role == "found")
    blob = found.file().blob.model_copy(
        update={"sha256": sha256_hex(b"the found network's"), "size_bytes": len(model)}
    )
    files = tuple(file.model_copy(update={"blob": blob}) for file in found.files)
    changed: dict[str, Document] = {
        "convert": convert.model_copy(
            update={
                "networks": tuple(
                    n.model_copy(update={"files": files}) if n.role == "found" else n
                    for n in convert.networks
                )
            }
        ),
        "verify": verify.model_copy(
            update={
                "networks": tuple(
                    n.model_copy(update={"model": blob}) if n.role == "found" else n for n in verify.networks
                )
            }
        ),
    }
    return {**documents, **changed}, {blob.sha256: model}


def finish(
    folder: Path,
    *,
    model: bytes = FLOAT32,
    documents: Mapping[str, Document] | None = None,
    **verification: Any,
) -> Path:
    """Run a project in ``folder`` whose found network is ``model``."""
    folder.mkdir(parents=True, exist_ok=True)
    # The precision is given: on computers with bf16 a run without it would time a training first.
    text = "seed: 5\ntraining: {precision: '32'}\n"
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    made, blobs = with_model(documents or sample_documents(), model)
    toy = ToyPipeline(documents=made, blobs=blobs, verification=verification)
    run_pipeline(RunOptions(), open_project(Selection(folder / "pipeline.yaml"), toy))
    return folder
