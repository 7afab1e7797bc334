"""All files of a package, as bytes: equal runs give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Record, sha256_hex
from stages.packaging.aar import LABELS_ASSET, MODEL_ASSET, NOTICE_ASSET, android_archive
from stages.packaging.labels import LABELS
from stages.packaging.maven import version_files
from stages.packaging.provenance import ShippedFile, provenance
from stages.packaging.shipment import Shipment
from stages.packaging.texts import model_card, notice, package_readme

SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Package:
    """``files``: those of the package's folder; ``version``: those of its version in the Maven repository."""

    files: Mapping[str, bytes]
    version: Mapping[str, bytes]


def build_package(shipment: Shipment) -> Package:
    """Pack a shipment."""
    coordinates, text = shipment.coordinates, notice(shipment)
    assets = {MODEL_ASSET: shipment.verified.content, LABELS_ASSET: shipment.labels}
    if text is not None:
        assets[NOTICE_ASSET] = text
    archive_name, archive = f"{coordinates.folder}.aar", android_archive(coordinates, assets)
    made_from = provenance(
        coordinates,
        tuple(
            ShippedFile(
                name=model.name,
                precision=model.precision,
                sha256=sha256_hex(model.content),
                converted_sha256=model.source.blob.sha256,
                weights_sha256=shipment.run.found_conversion.weights_of(model.source).sha256,
                verified=model.verified,
            )
            for model in shipment.models
        ),
        shipment.run.found_conversion.weights.sha256,
        shipment.records,
        shipment.run.verify,
        pretrained=shipment.pretrained,
        allowed_unverified=bool(shipment.unverified),
    )
    files = {
        **{model.name: model.content for model in shipment.models},
        LABELS: shipment.labels,
        archive_name: archive,
        "result.json": _readable(shipment.result),
        "provenance.json": _readable(made_from),
        "MODEL_CARD.md": model_card(shipment),
        "README.md": package_readme(shipment, archive_name),
        **({"NOTICE": text} if text is not None else {}),
    }
    sums = "".join(f"{sha256_hex(files[name])}  {name}\n" for name in sorted(files))
    described = version_files(
        coordinates, archive, description=shipment.description.text, licence=shipment.description.licence
    )
    return Package({**files, SUMS: sums.encode()}, described)


def _readable(document: Record) -> bytes:
    text = json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()
