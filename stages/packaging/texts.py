"""The package's texts for people: model card, README, NOTICE. All figures come from the run's documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasflow.base.text import human_bytes, markdown_text, plain_line
from stages.packaging.aar import LABELS_ASSET, MODEL_ASSET, NOTICE_ASSET, asset_path
from stages.packaging.shipment import ReadyModel, Shipment
from stages.packaging.tflite_file import TensorFacts
from stages.reporting.cost import PARTS
from stages.reporting.images_text import class_parts, images_sentences
from stages.reporting.notation import ROLES, amount, display_name, hours, milliseconds
from stages.reporting.precisions import HEADINGS, precision_rows
from stages.reporting.text import headline, sentences, verdict_sentence

TEMPLATES = Path(__file__).parent / "templates"
MEDIAPIPE_ANDROID, LITERT_ANDROID = "0.10.21", "2.3.0"
_SAID_ELSEWHERE = ("Found", "Verdict", "Certainty", "Search cost", "Pretrained")
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_MOST_CONFUSIONS = 2


def model_card(shipment: Shipment) -> bytes:
    """``MODEL_CARD.md``; equal documents give equal text."""
    result, model = shipment.result, shipment.verified
    verification, network, device = result.verification, result.network, result.device
    images = result.images
    assert images is not None  # shipment.prepare has asked
    parts = class_parts(images)
    return _render(
        "MODEL_CARD.md.j2",
        name=shipment.coordinates.name,
        version=shipment.coordinates.version,
        headline=markdown_text(headline(result)),
        unverified=shipment.unverified,
        classes=model.facts.classes,
        architecture=network.architecture.replace("|", r"\|"),  # it stands in a table
        input=_tensor(model.facts.input),
        output=_tensor(model.facts.output) + (", probabilities" if model.facts.probabilities else ", logits"),
        parameters=amount(network.parameters),
        macs=amount(network.macs),
        author=markdown_text(shipment.description.author),
        licence=markdown_text(shipment.description.licence),
        files=[_file_row(each) for each in shipment.models],
        apps=_apps(model),
        images=[
            (subject, markdown_text(said))
            for subject, said in [hub_sentence(shipment.data_settings), *images_sentences(images)]
            if said
        ],
        parts=parts,
        part_rows=[
            {"name": markdown_text(each.name), "counts": [_count(getattr(each, part)) for part in parts]}
            for each in images.classes
        ],
        test_images=f"{verification.test_images:,}",
        verified_file=model.name,
        accuracy=f"{network.accuracy_percent:.2f}",
        accuracy_low=f"{network.accuracy_interval_95[0]:.2f}",
        accuracy_high=f"{network.accuracy_interval_95[1]:.2f}",
        rows=_class_rows(shipment),
        device=markdown_text(
            f"{device.model}, {device.soc}, {device.os_build}, {device.runtime}, {device.run_with}"
        ),
        networks=[
            {
                "name": markdown_text(display_name(row.name)),
                "role": ROLES[row.role],
                "accuracy": f"{row.accuracy_percent:.2f}",
                "ms": milliseconds(row.median_ms),
                "known_to": f"{row.half_interval_percent:.1f}",
                "ratio": "1" if row.against_found is None else f"{row.against_found.latency_ratio:.2f}",
            }
            for row in verification.networks
        ],
        file_headings=HEADINGS,
        file_rows=[[markdown_text(cell) for cell in row] for row in precision_rows(result.precisions)],
        sentences=[(s, markdown_text(said)) for s, said in sentences(result) if s not in _SAID_ELSEWHERE],
        verdict=_verdict(shipment),
        limits=_limits(shipment),
        cost=[
            {
                "name": PARTS[part.stage],
                "device": f"{part.device_seconds:.0f}",
                "cpu": hours(part.cpu_hours),
                "gpu": hours(part.gpu_hours),
            }
            for part in result.search.cost.parts
        ],
        pretrained=_pretrained(shipment),
    )


def package_readme(shipment: Shipment, archive: str) -> bytes:
    """``README.md`` of the package, with what an app must write; ``archive``: the AAR's name."""
    coordinates, model = shipment.coordinates, shipment.verified
    facts = model.facts
    height, width, channels = facts.input.shape[1:]
    whole_numbers, signed = facts.input.type != "float32", facts.input.type == "int8"
    raw = "grey" if channels == 1 else "(pixel shr shift and 0xFF)"
    byte = f"({raw} - 128).toByte()" if signed else f"{raw}.toByte()"
    return _render(
        "README.md.j2",
        name=coordinates.name,
        version=coordinates.version,
        headline=markdown_text(headline(shipment.result)),
        unverified=shipment.unverified,
        gradle=coordinates.gradle,
        model_asset=asset_path(coordinates, MODEL_ASSET),
        labels_asset=asset_path(coordinates, LABELS_ASSET),
        notice_asset=asset_path(coordinates, NOTICE_ASSET),
        notice=shipment.pretrained is not None,
        archive=archive,
        mediapipe=not facts.refused_by_apps(),
        refused=facts.refused_by_apps(),
        mediapipe_version=MEDIAPIPE_ANDROID,
        litert_version=LITERT_ANDROID,
        most_results=min(3, facts.classes),
        fit=_fit(shipment),
        crop=bool(_fit(shipment)),
        probabilities=facts.probabilities,
        width=width,
        height=height,
        channels=channels,
        grey=channels == 1,
        array="ByteArray" if whole_numbers else "FloatArray",
        value=byte if whole_numbers else f"({raw} - 127.5f) / 127.5f",
        write="writeInt8" if whole_numbers else "writeFloat",
        read="readFloat" if facts.output.type == "float32" else "readInt8",
        unsigned=".toUByte()" if facts.output.type == "uint8" else "",
    )


def hub_sentence(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Which data set of the Hugging Face hub a network has learned from; empty for others and for folders."""
    name, revision = str(settings.get("name") or ""), settings.get("revision")
    if settings.get("source") != "hub" or not _HUB_NAME.fullmatch(name):
        return "Data set", ""
    return "Data set", f"{name}{f', revision {revision}' if revision else ''}, of the Hugging Face hub."


def notice(shipment: Shipment) -> bytes | None:
    """``NOTICE``: whose published weights the network descends from; None where it began with random ones."""
    origin = shipment.pretrained
    if origin is None:
        return None
    lines = [
        f"{shipment.coordinates.name} {shipment.coordinates.version}",
        "",
        "This network's weights descend from published ones, which were trained further and changed:",
        "",
        f"  {plain_line(origin.name)}",
        *([f"  Version {plain_line(origin.version)}"] if origin.version else []),
        f"  Licence: {plain_line(origin.licence) or 'not known'}",
        *([f"  {plain_line(origin.url)}"] if origin.url else []),
        f"  SHA-256 of the published file: {origin.sha256}",
    ]
    if origin.licence == "Apache-2.0":
        lines += [
            "",
            "Licensed under the Apache License, Version 2.0. You may obtain a copy of the License at",
            "http://www.apache.org/licenses/LICENSE-2.0",
        ]
    return "".join(f"{line}\n" for line in lines).encode()


def _file_row(model: ReadyModel) -> dict[str, Any]:
    check = model.source.check
    compared = "PyTorch" if model.precision == "float32" else "the float32 file"
    share = f"{check.top1_agreement_percent:.4g} % of {check.images:,} images"
    return {
        "name": model.name,
        "precision": model.precision,
        "input": model.facts.input.type,
        "output": model.facts.output.type,
        "size": human_bytes(len(model.content)),
        "agreement": f"same class as {compared} on {share}",
    }


def _class_rows(shipment: Shipment) -> list[dict[str, Any]]:
    rows = []
    for each in shipment.result.verification.classes:
        found = each.found
        taken = [f"{c.images:,} {c.answered}" for c in found.confusions[:_MOST_CONFUSIONS]] if found else []
        rows.append(
            {
                "name": markdown_text(each.name),
                "images": f"{each.images:,}",
                "accuracy": f"{found.accuracy_percent:.1f}" if found else "-",
                "interval": "{:.1f} to {:.1f}".format(*found.accuracy_interval_95) if found else "-",
                "confusions": markdown_text(", ".join(taken)) or "-",
            }
        )
    return rows


def _verdict(shipment: Shipment) -> str:
    said = markdown_text(verdict_sentence(shipment.result))
    if shipment.result.verification.verdict == "ungated":
        return f"No gate was set for this run: nothing was required of its latency. {said}"
    return f"{said} {shipment.unverified}".rstrip()


def _limits(shipment: Shipment) -> list[str]:
    result = shipment.result
    said = [
        "It answers one of its classes to every image, also to one that shows none of them. Its scores are "
        "not calibrated.",
        "Its accuracy holds for images like the test images; its latencies for the device, the runtime and "
        "the number of threads above.",
    ]
    measured = {file.model_sha256 for file in result.precisions}
    others = [
        f"`{model.name}`"
        for model in shipment.models
        if not model.verified and model.source.blob.sha256 not in measured
    ]
    if others:
        said.append(f"Nothing was measured with {' and '.join(others)}: measure before you rely on it.")
    if fit := _fit(shipment):
        said.append(fit)
    if refused := shipment.verified.facts.refused_by_apps():
        said.append(f"MediaPipe's ImageClassifier and ML Kit do not take it: {refused}.")
    if _is_fashion(shipment):
        said.append("It has learned from grey pictures of single garments, bright on black: give it such.")
    if result.latency_model.foreign:
        said.append("The latency model that it was searched with was not measured on this device.")
    if result.latency_model.adapted_from:
        said.append("The latency model that it was searched with was adapted from another device's.")
    return said


def _fit(shipment: Shipment) -> str:
    """What MediaPipe does to an image's shape, where the network was tested on another shape."""
    if _is_fashion(shipment) or shipment.data_settings.get("fit") != "crop":
        return ""
    return (
        "It was trained and tested on the middle of each image (a square of 7/8 of the shorter side). "
        "MediaPipe's ImageClassifier squeezes the whole image into a square instead: give it the middle "
        "square, or train with data.fit: stretch."
    )


def _is_fashion(shipment: Shipment) -> bool:
    images = shipment.result.images
    return images is not None and images.source == "fashion_mnist"


def _apps(model: ReadyModel) -> str:
    refused = model.facts.refused_by_apps()
    if refused:
        return f"MediaPipe's ImageClassifier and ML Kit do not take `{model.name}`: {refused}."
    return f"MediaPipe's ImageClassifier and ML Kit's custom models read `{model.name}` as it is."


def _pretrained(shipment: Shipment) -> str:
    origin = shipment.pretrained
    if origin is None:
        return "None: its weights began as random numbers."
    words = [origin.name, origin.version, f"licence {origin.licence or 'not known'}", origin.url]
    return f"{markdown_text(', '.join(filter(None, words)))}. The file `NOTICE` goes with the network."


def _tensor(tensor: TensorFacts) -> str:
    return f"{tensor.type}, {' x '.join(map(str, tensor.shape))}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _render(template: str, **values: Any) -> bytes:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # Markdown, not HTML: foreign text goes through markdown_text()
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).encode()
