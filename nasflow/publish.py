"""What a finished run leaves for people: ``artifacts/latest``, copied out of the store.

Of ``nasflow run --devices A,B --train`` each device has such a folder, ``artifacts/devices/NAME``.

::

    report.html            the report, self-contained
    summary.md             the same in short, for a page that takes Markdown
    result.json            its figures (see artifacts/README.md)
    network.tflite         the found network, ready for an app, in the precision that was verified
    network_int8.tflite    the same in another precision (convert.precisions), for each one file
    network.onnx           the same as ONNX Runtime ran it, where that was the engine
    network.json           its architecture (NetConfig)
    network.safetensors    its weights, for PyTorch
    manifest.json          what these files were made from, and their hashes

Every file is written whole under another name and renamed; the manifest comes last, so that an
interrupted publication is made again by the next run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import Field, ValidationError

from nasflow.base.files import delete, hash_or_none, read_or_none, write_atomic
from pipeline.artifact import Blob, Document, Record, canonical_json, document_bytes, sha256_hex
from pipeline.events import Emit, Message
from pipeline.runner import Pipeline
from pipeline.store.store import StageRecord, Store
from stages.data.config import DataConfig, open_dataset
from stages.documents import CrossTable, CrossValidation, Precision
from stages.reporting.result import ResultDocument
from stages.reporting.run_documents import RunDocuments
from stages.reporting.run_result import build_result, run_facts

if TYPE_CHECKING:
    from nasflow.config import PipelineConfig

REPORT, SUMMARY, RESULT, MODEL = "report.html", "summary.md", "result.json", "network.tflite"
ONNX = "network.onnx"
ARCHITECTURE, WEIGHTS, MANIFEST = "network.json", "network.safetensors", "manifest.json"
FILES = (REPORT, SUMMARY, RESULT, MODEL, ARCHITECTURE, WEIGHTS)
"""What every publication has; :func:`other_model` names what may be beside it."""
COMPLETE = frozenset(field.name for field in fields(RunDocuments))
"""The stages whose documents a publication needs."""


LATEST, DEVICES, CROSS_TABLE = "latest", "devices", "cross_table.json"
"""Below ``artifacts``: the last run's results; those of each device of ``--devices``; how all compare."""


class Manifest(Record):
    """What the files were made from, and what they hold.

    ``documents``: the stages' documents by their SHA-256; empty as an earlier version wrote it.
    """

    made_from: str
    documents: dict[str, str] = Field(default={})
    sha256: dict[str, str]


@dataclass(frozen=True)
class Published:
    """Where the results lie, and the figures in them; ``written`` says which files were made anew."""

    folder: Path
    result: ResultDocument
    names: tuple[str, ...]
    written: tuple[str, ...]

    @property
    def files(self) -> dict[str, Path]:
        """Every file by its name."""
        return {name: self.folder / name for name in self.names}


def artifacts_of(folder: Path) -> Path:
    """The folder ``artifacts`` of a publication: ``latest`` lies in it, ``devices/NAME`` one deeper."""
    above = folder.parent
    return above.parent if above.name == DEVICES and not (above / "records").is_dir() else above


def cross_table_of(artifacts: Path, documents: Mapping[str, Document]) -> CrossTable | None:
    """The cross table that a run stands in: its device, with its settings and its found network.

    None: there is no such table, or it is of other runs (or another version's).
    """
    try:
        table = CrossTable.model_validate_json(read_or_none(artifacts / CROSS_TABLE) or b"")
    except ValidationError:
        return None
    run = RunDocuments.of(documents)
    here = run.verify.device.identity(), run.verify.runtime
    own = [t.name for t in table.targets if (t.device.identity(), t.runtime) == here]
    found = run.found.net
    same = table.space == run.search.space.name and any(table.network(name).net == found for name in own)
    return table if same else None


def other_model(precision: Precision) -> str:
    """The name of the found network's file in a precision that is not the verified one."""
    return f"network_{precision}.tflite"


def publish(
    documents: Mapping[str, Document],
    store: Store,
    folder: Path,
    config: PipelineConfig,
    emit: Emit,
    *,
    folds: CrossValidation | None = None,
    data: DataConfig | None = None,
    again: bool = False,
) -> Published:
    """Bring ``folder`` up to date with a finished run's documents; write nothing that is.

    ``folds``: what the runs of all folds say together. ``data``: the images of the run, some of which the
    report shows where ``report.images`` says so.

    A file that was changed or damaged is told and written anew; ``again`` writes all of them. Raises
    UsageError where a stage's document is missing, IntegrityError where a blob is damaged,
    MachineError.
    """
    shown = data if data is not None and shows_images(config, data) else None
    cross = cross_table_of(store.root, documents)
    made_from = _made_from(documents, config, folds, cross, images=shown is not None)
    manifest = read_manifest(folder)
    of_these = manifest is not None and manifest.made_from == made_from and bool(manifest.documents)
    known = manifest.sha256 if manifest is not None and of_these else {}
    models = _models(documents)
    names = (*FILES, *(name for name in models if name != MODEL))
    hashes = {name: hash_or_none(folder / name) for name in names}
    if known and not again:
        for name in names:
            if hashes[name] not in (None, known.get(name)):
                text = f"{folder / name} was changed or damaged; it is written again."
                emit(Message("", text, level="warning"))
        if all(hashes[name] is not None and hashes[name] == known.get(name) for name in names):
            with suppress(ValidationError):  # written by another version of nasflow: made anew
                result = ResultDocument.model_validate_json((folder / RESULT).read_bytes())
                return Published(folder, result, names, ())
    facts = run_facts(seed=config.seed, dataset=config.data.source)
    result = build_result(documents, facts, folds, _stage_seconds(documents, store), cross)
    contents = _contents(documents, result, store, models, shown)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    for name in (ONNX, *map(other_model, get_args(Precision))):  # of another run, which had others
        if name not in models:
            delete(folder / name)
    manifest = Manifest(
        made_from=made_from,
        documents=_digests(documents),
        sha256={n: sha256_hex(c) for n, c in contents.items()},
    )
    write_atomic(folder / MANIFEST, _readable(manifest))
    written = tuple(name for name in names if hashes[name] != manifest.sha256[name])
    return Published(folder, result, names, written)


def _models(documents: Mapping[str, Document]) -> dict[str, Blob]:
    """The found network's files by the names that they are published under."""
    run = RunDocuments.of(documents)
    verified = run.verify.runtime.precision
    files = {
        MODEL if file.precision == verified else other_model(file.precision): file.blob
        for file in run.found_conversion.files
    }
    onnx = run.found_conversion.onnx
    return files | {ONNX: onnx} if run.verify.device.runs_onnx and onnx is not None else files


def images_of(pipeline: Pipeline) -> DataConfig | None:
    """The images that a pipeline's last stage tests on; None where it tests on none."""
    data = getattr(pipeline.stages[-1], "data", None)
    return data if isinstance(data, DataConfig) else None


def record_of(store: Store, stage: str, digest: str) -> StageRecord | None:
    """The record of the run that made a document; of several the first, which later ones do not replace."""
    made = [record for record in store.records(stage) if record.output.sha256 == digest]
    return min(made, key=lambda record: (record.finished_at, record.fingerprint)) if made else None


def _stage_seconds(documents: Mapping[str, Document], store: Store) -> dict[str, float]:
    records = {name: record_of(store, name, digest) for name, digest in _digests(documents).items()}
    return {name: record.seconds for name, record in records.items() if record is not None}


def shows_images(config: PipelineConfig, data: DataConfig) -> bool:
    """Whether the report shows some of these images: of a user's own folder only if asked for."""
    own = data.source != "fashion_mnist" and data.path is not None
    return config.report.shows_images(own=own) and open_dataset(data).is_at_hand()


def _contents(
    documents: Mapping[str, Document],
    result: ResultDocument,
    store: Store,
    models: Mapping[str, Blob],
    data: DataConfig | None,
) -> dict[str, bytes]:
    from stages.reporting.html import render_report
    from stages.reporting.markdown import summary_markdown
    from stages.reporting.thumbnails import thumbnails

    run = RunDocuments.of(documents)
    network, shown = run.found_conversion, None
    if data is not None and run.verify.surest_right + run.verify.surest_wrong:
        dataset = open_dataset(data)
        shown = thumbnails(run.verify, dataset.load("test"), dataset.class_names)
    return {
        **{name: store.read_bytes(blob) for name, blob in models.items()},
        WEIGHTS: store.read_bytes(network.weights),
        ARCHITECTURE: _readable(network.net),
        RESULT: _readable(result),
        SUMMARY: summary_markdown(result).encode(),
        REPORT: render_report(documents, result, shown).encode(),
    }


def _made_from(
    documents: Mapping[str, Document],
    config: PipelineConfig,
    folds: CrossValidation | None,
    cross: CrossTable | None,
    *,
    images: bool,
) -> str:
    together: dict[str, Document] = {} if folds is None else {"folds": folds}
    together |= {} if cross is None else {"cross": cross}
    digests = _digests({**documents, **together})
    made_from = {"documents": digests, "seed": config.seed, "dataset": config.data.source, "images": images}
    return sha256_hex(canonical_json(made_from))


def _digests(documents: Mapping[str, Document]) -> dict[str, str]:
    return {name: sha256_hex(document_bytes(document)) for name, document in documents.items()}


def read_manifest(folder: Path) -> Manifest | None:
    """What the files of ``folder`` were made from; None where that cannot be told. Raises MachineError."""
    try:
        return Manifest.model_validate_json(read_or_none(folder / MANIFEST) or b"")
    except ValidationError:
        return None


def _readable(document: Record) -> bytes:
    text = json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()
