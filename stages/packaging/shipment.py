"""What is shipped of a finished run, as the package's texts and files need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nasflow.base.errors import GateFailedError, InconclusiveError, UsageError
from nasflow.base.text import plain_line
from pipeline.artifact import Blob
from pipeline.store.records import StageRecord
from stages.documents import ModelFile, Precision
from stages.packaging.coordinates import Coordinates
from stages.packaging.embedding import with_metadata
from stages.packaging.labels import LABELS, label_file
from stages.packaging.metadata import CALIBRATION, Description, calibration_file, model_metadata
from stages.packaging.tflite_file import ModelFacts, read_facts
from stages.reporting.result import ResultDocument
from stages.reporting.run_documents import RunDocuments
from stages.reporting.text import verdict_reason
from stages.space.weights_origin import WeightsOrigin

_MOST_CHARACTERS = 1_000
UNSTATED_AUTHOR, UNSTATED_LICENCE = "not stated", "not stated"


@dataclass(frozen=True)
class Asked:
    """What the person who ships says; empty: nothing. Raises UsageError for text that files cannot hold."""

    author: str = ""
    licence: str = ""
    allow_unverified: bool = False

    def __post_init__(self) -> None:
        for option, text in (("--author", self.author), ("--licence", self.licence)):
            if not text.isprintable() or len(text) > _MOST_CHARACTERS:
                raise UsageError(
                    f"{option} has {len(text)} characters, {sum(not c.isprintable() for c in text)} of which "
                    f"cannot be printed: {plain_line(text, limit=60)!r}.",
                    hint=f"Write it in one line of at most {_MOST_CHARACTERS} printable characters.",
                )


@dataclass(frozen=True)
class ReadyModel:
    """A `.tflite` file of the package; ``verified``: accuracy and latency were measured with it."""

    name: str
    content: bytes
    facts: ModelFacts
    source: ModelFile
    verified: bool

    @property
    def precision(self) -> Precision:
        """Of its weights and arithmetic."""
        return self.source.precision


@dataclass(frozen=True)
class Shipment:
    """A finished run's found network, ready to be packed. ``result`` names no file of the images."""

    coordinates: Coordinates
    asked: Asked
    description: Description
    run: RunDocuments
    records: Mapping[str, StageRecord]
    result: ResultDocument
    models: tuple[ReadyModel, ...]
    labels: bytes

    @property
    def verified(self) -> ReadyModel:
        """The model whose accuracy and latency were measured."""
        return next(model for model in self.models if model.verified)

    @property
    def pretrained(self) -> WeightsOrigin | None:
        """What the weights descend from."""
        return self.run.found_conversion.pretrained

    @property
    def data_settings(self) -> Mapping[str, Any]:
        """The configuration's section ``data`` as the network was tested with it; empty: not recorded."""
        settings: Mapping[str, Any] = self.records["verify"].settings.get("data", {})
        return settings

    @property
    def unverified(self) -> str:
        """Why the package was made although its gate was not passed; empty where nothing stood against it."""
        verification = self.result.verification
        if verification.verdict not in ("fail", "inconclusive"):
            return ""
        return (
            f"The gate verify.max_ratio {verification.max_ratio:g} ended with '{verification.verdict}'; the "
            "package was made with --allow-unverified."
        )


def check_may_ship(result: ResultDocument, *, allow_unverified: bool) -> None:
    """Raises UsageError for a simulated phone's results, GateFailedError and InconclusiveError for a gate.

    A run without a gate may be shipped; ``allow_unverified``: so may one whose gate was not passed.
    """
    if result.device.virtual:
        raise UsageError(
            "these results are of a simulated phone: their latencies are this computer's, not a phone's.",
            hint="Run it on a phone (--device android) or on this computer (--device local), and ship that.",
        )
    if result.device.kind == "cuda" or result.device.runtime.startswith("onnxruntime "):
        raise UsageError(
            f"these latencies are those of {result.device.runtime}, which does not run .tflite files: none "
            "of what would be shipped was measured.",
            hint="Run it with LiteRT (--device local or android), and ship that.",
        )
    verdict = result.verification.verdict
    if allow_unverified or verdict not in ("fail", "inconclusive"):
        return
    said = verdict_reason(result)
    remedy = (
        "Measure again (nasflow run --force verify)"
        if result.verification.disturbed
        else "Search for a faster network (key target)"
    )
    hint = f"{remedy}, or ship this one: --allow-unverified; its card says so."
    if verdict == "fail":
        raise GateFailedError(f"the run's gate failed: nothing was shipped. {said}", hint=hint)
    raise InconclusiveError(f"the run's gate is inconclusive: nothing was shipped. {said}", hint=hint)


def prepare(
    coordinates: Coordinates,
    asked: Asked,
    run: RunDocuments,
    records: Mapping[str, StageRecord],
    result: ResultDocument,
    read: Callable[[Blob], bytes],
) -> Shipment:
    """Put names, labels and metadata into the found network's files.

    Raises UsageError where the labels do not fit, or the verified file is not among the converted ones,
    ConversionError where a file cannot be shipped, IntegrityError.
    """
    if result.images is None:
        raise UsageError(
            "the run was verified by an earlier version of nasflow, which did not keep the classes' names.",
            hint="Verify again: nasflow run --force verify.",
        )
    classes = [each.name for each in result.images.classes]
    anonymous = result.images.model_copy(update={"broken": None})
    description = _description(coordinates, asked, run, result)
    models = [
        _ready(
            file,
            read(file.blob),
            verified=file.blob == run.found.model,
            description=description,
            classes=classes,
        )
        for file in run.found_conversion.files
    ]
    if not any(model.verified for model in models):
        raise UsageError(
            "the file that was verified is not among the found network's converted files.",
            hint="Convert and verify again: nasflow run --from convert.",
        )
    return Shipment(
        coordinates=coordinates,
        asked=asked,
        description=description,
        run=run,
        records=records,
        result=result.model_copy(update={"images": anonymous, "run": None}),
        models=tuple(sorted(models, key=lambda model: (not model.verified, model.name))),
        labels=label_file(classes, models[0].facts.classes),
    )


def _ready(
    file: ModelFile, content: bytes, *, verified: bool, description: Description, classes: list[str]
) -> ReadyModel:
    facts = read_facts(content, name=f"the {file.precision} model")
    files = {LABELS: label_file(classes, facts.classes)}
    if not facts.probabilities:
        files[CALIBRATION] = calibration_file(facts.classes)
    return ReadyModel(
        name="model.tflite" if verified else f"model_{file.precision}.tflite",
        content=with_metadata(content, model_metadata(facts, description), files),
        facts=facts,
        source=file,
        verified=verified,
    )


def _description(
    coordinates: Coordinates, asked: Asked, run: RunDocuments, result: ResultDocument
) -> Description:
    found = result.network
    text = (
        f"Image classifier of {run.found.net.classes} classes, found by nasflow: {found.architecture}. "
        f"Accuracy {found.accuracy_percent:.2f} % on {result.verification.test_images:,} test images; "
        f"{found.median_ms:.4g} ms on {result.device.model} ({result.device.soc})."
    )
    origin = run.found_conversion.pretrained
    licence = asked.licence or UNSTATED_LICENCE
    if origin is not None:
        licence += (
            f"; weights descend from {plain_line(origin.name)} "
            f"({plain_line(origin.licence) or 'licence not known'}), see NOTICE"
        )
    return Description(
        name=coordinates.name,
        version=coordinates.version,
        text=text,
        author=asked.author or UNSTATED_AUTHOR,
        licence=licence,
    )
