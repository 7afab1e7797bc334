"""``provenance.json``: what a shipped network was made from, by hashes."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from pipeline.artifact import Document, Record, canonical_json, sha256_hex
from pipeline.store.records import StageRecord
from stages.documents import Precision, Verdict, Verification
from stages.packaging.coordinates import Coordinates
from stages.space.weights_origin import WeightsOrigin

_DATA_KEYS = ("dataset", "dataset_sha256", "split_sha256")


class ShippedFile(Record):
    """A model of the package: its own hash, and that of the model before metadata were put into it."""

    name: str
    precision: Precision
    sha256: str
    converted_sha256: str
    weights_sha256: str = Field(description="of the PyTorch weights in it, fine-tuned ones where it has such")
    verified: bool = Field(description="whether accuracy and latency were measured with this file")


class StageProvenance(Record):
    """A stage's run that the network came from."""

    version: int
    fingerprint: str
    settings_sha256: str
    environment: dict[str, str]
    inputs: dict[str, str]
    output_sha256: str
    nasflow_version: str
    code_sha256: str


class Provenance(Document):
    """What the package was made from. Nothing in it names a person, a path or a device's serial number."""

    name: str
    version: str
    files: tuple[ShippedFile, ...]
    weights_sha256: str = Field(description="of the network as it was trained")
    seed: int
    configuration_sha256: str = Field(description="of all stages' settings")
    data: dict[str, str] = Field(description="the images' name and hashes")
    runtime: str = Field(description="that measured")
    runner_sha256: str = Field(description="of the benchmark program; empty: the runtime's own package")
    device: dict[str, str] = Field(description="what identifies the device that measured")
    device_sha256: str
    pretrained: WeightsOrigin | None
    verdict: Verdict
    allowed_unverified: bool
    stages: dict[str, StageProvenance]


def provenance(
    coordinates: Coordinates,
    files: tuple[ShippedFile, ...],
    weights_sha256: str,
    records: Mapping[str, StageRecord],
    verification: Verification,
    *,
    pretrained: WeightsOrigin | None,
    allowed_unverified: bool,
) -> Provenance:
    """Gather it from the records of a finished run's stages, by the stages' names."""
    device = verification.device.identity()
    verify = records["verify"]
    return Provenance(
        name=coordinates.name,
        version=coordinates.version,
        files=files,
        weights_sha256=weights_sha256,
        seed=int(verify.settings["seed"]),
        configuration_sha256=_hash({name: record.settings for name, record in records.items()}),
        data={key: verify.environment[key] for key in _DATA_KEYS if key in verify.environment},
        runtime=verification.device.runtime,
        runner_sha256=verification.device.binary_sha256,
        device=device,
        device_sha256=_hash(device),
        pretrained=pretrained,
        verdict=verification.verdict,
        allowed_unverified=allowed_unverified,
        stages={name: _stage(record) for name, record in records.items()},
    )


def _stage(record: StageRecord) -> StageProvenance:
    return StageProvenance(
        version=record.version,
        fingerprint=record.fingerprint,
        settings_sha256=_hash(record.settings),
        environment=record.environment,
        inputs=record.inputs,
        output_sha256=record.output.sha256,
        nasflow_version=record.nasflow_version,
        code_sha256=record.code_sha256,
    )


def _hash(value: object) -> str:
    return sha256_hex(canonical_json(value))
