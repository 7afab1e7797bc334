"""The real engine over stages that do no work: each returns its sample document at once.

Names, inputs and outputs are those of the real stages; what they return comes from
:mod:`support.sample_documents`, with blobs that are truly in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from support.sample_documents import sample_documents

from android_bench.device import Device
from nasflow.assemble import artifacts_folder
from nasflow.config import PipelineConfig
from pipeline.artifact import Document
from pipeline.events import Emit
from pipeline.runner import Pipeline
from pipeline.stage import TOOL, BlobStore, Context, Stage
from pipeline.store.store import Store

INPUTS: Mapping[str, Mapping[str, str]] = {
    "profile": {},
    "latency": {"table": "profile"},
    "precheck": {"latency": "latency"},
    "search": {"latency": "latency"},
    "prune": {"search": "search", "latency": "latency"},
    "finetune": {"pruned": "prune"},
    "baseline": {},
    "convert": {"finetuned": "finetune", "baselines": "baseline", "latency": "latency"},
    "verify": {"converted": "convert", "latency": "latency", "pruned": "prune"},
}

AFTER: Mapping[str, tuple[str, ...]] = {"search": ("precheck",)}

Work = Callable[[Context], None]


@dataclass(frozen=True)
class ToyPipeline:
    """Makes pipelines as :func:`nasflow.assemble.build_pipeline` does.

    ``verification`` replaces fields of the last document; ``work`` is done inside a stage, by its name;
    ``documents`` are what the stages return; ``blobs`` is what some of their blobs hold, by the SHA-256 that
    stands in them.
    """

    verification: Mapping[str, Any] = field(default_factory=dict)
    work: Mapping[str, Work] = field(default_factory=dict)
    documents: Mapping[str, Document] = field(default_factory=sample_documents)
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    def __call__(
        self, config: PipelineConfig, base_dir: Path, emit: Emit, *, device: Device | None = None
    ) -> Pipeline:
        documents = dict(self.documents)
        documents["verify"] = documents["verify"].model_copy(update=dict(self.verification))
        stages = [
            _toy(name, documents[name], config.seed, self.work.get(name, _nothing), self.blobs)
            for name in documents
        ]
        return Pipeline(stages, Store(artifacts_folder(config, base_dir), emit), emit)


def _nothing(context: Context) -> None:
    """A stage's whole work."""


def _toy(name: str, document: Document, seed: int, work: Work, blobs: Mapping[str, bytes]) -> Stage:
    toy_name, toy_output = name, type(document)

    @dataclass(frozen=True)
    class Toy(Stage):
        name: ClassVar[str] = toy_name
        version: ClassVar[int] = 1
        inputs: ClassVar[Mapping[str, str]] = INPUTS[toy_name]
        after: ClassVar[tuple[str, ...]] = AFTER.get(toy_name, ())
        output: ClassVar[type[Document]] = toy_output

        seed: int
        document: Document = field(metadata=TOOL)
        work: Work = field(metadata=TOOL)

        def run(self, context: Context, **inputs: Any) -> Document:
            self.work(context)
            plain = self.document.model_dump(mode="json")
            return toy_output.model_validate(_stored(plain, context.store, blobs))

        def estimate_seconds(self) -> float:
            return 60.0

    return Toy(seed=seed, document=document, work=work)


def _stored(value: Any, store: BlobStore, blobs: Mapping[str, bytes]) -> Any:
    """The same plain data, every blob replaced by one that is in the store."""
    if isinstance(value, dict) and value.keys() == {"sha256", "suffix", "size_bytes"}:
        content = blobs.get(value["sha256"], f"content of {value['sha256']}".encode())
        return store.put_bytes(content, value["suffix"]).model_dump()
    if isinstance(value, dict):
        return {key: _stored(inner, store, blobs) for key, inner in value.items()}
    if isinstance(value, list):
        return [_stored(inner, store, blobs) for inner in value]
    return value
