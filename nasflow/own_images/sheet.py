"""What ``nasflow data check --html`` writes: one file with small pictures, that needs nothing else."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nasflow.base.errors import IntegrityError
from nasflow.own_images.findings import Findings
from nasflow.own_images.words import class_table, subjects
from stages.data.catalogue import described
from stages.data.decoded import DecodedEachTime
from stages.data.decoder import Decoder
from stages.data.geometry import Pixels
from stages.data.image_file import BrokenImageError
from stages.data.names import shown
from stages.data.reading import decode_image
from stages.data.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATES = Path(__file__).parent
VARIANTS = 6
MOST_PAIRS, MOST_SETS, MOST_CONFLICTS, MOST_BROKEN = 60, 30, 40, 1_000
MOST_CLASSES, IMAGES_OF_CLASS = 12, 2
_MOST_OF_SET = 4
_SIDE, _LONGEST_RATIO, _QUALITY = 112, 2.0, 78


@dataclass(frozen=True)
class Picture:
    """One image: its thumbnail as a data URI (empty where it cannot be read any more), and what it is."""

    uri: str
    name: str
    label: str = ""
    note: str = ""


def render_sheet(findings: Findings, *, channels: int = 3) -> str:
    """The sheet as HTML: conflicts, copies, broken files, and samples as they are trained on."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    inventory = findings.inventory
    pairs = sorted(findings.pairs, key=lambda pair: -pair[2])  # the least alike first: they may be none
    return environment.get_template("sheet.html.j2").render(
        path=shown(findings.where),
        images=len(inventory.images),
        classes=len(findings.class_names),
        layout=inventory.listing.layout,
        problem=findings.problem,
        table="\n".join(class_table(findings)),
        subjects=list(subjects(findings)),
        conflicts=[
            [_picture(findings, number) for number in members]
            for members in _conflicting(findings)[:MOST_CONFLICTS]
        ],
        conflict_count=len(findings.conflicts),
        pairs=[
            (_picture(findings, first), _picture(findings, second), distance)
            for first, second, distance in pairs[:MOST_PAIRS]
        ],
        pair_count=len(pairs),
        sets=[
            ([_picture(findings, number) for number in members[:_MOST_OF_SET]], len(members))
            for members in findings.exact[:MOST_SETS]
        ],
        set_count=len(findings.exact),
        broken=[(shown(image.path), described(image)) for image in inventory.broken[:MOST_BROKEN]],
        broken_count=len(inventory.broken),
        variants=VARIANTS,
        preset=findings.config.augmentation.preset,
        samples=list(_samples(findings, channels)),
    )


def _conflicting(findings: Findings) -> list[list[int]]:
    """Images of each conflict: of each class one, as long as there is room."""
    number = {image.path: index for index, image in enumerate(findings.inventory.images)}
    chosen = []
    for conflict in findings.conflicts:
        of_class = {label: key for key, label in zip(conflict.keys, conflict.labels, strict=True)}
        chosen.append([number[of_class[label]] for label in sorted(of_class)][:_MOST_OF_SET])
    return chosen


def _picture(findings: Findings, number: int) -> Picture:
    listing, image = findings.inventory.listing, findings.inventory.images[number]
    listed = listing.images[number]
    try:
        content = findings.inventory.content.read(number)
        uri = data_uri(decode_image(content, shorter_side=_SIDE, longest_ratio=_LONGEST_RATIO))
    except BrokenImageError:
        uri = ""
    part = findings.splitting.parts.get(listed.path, "left out") if findings.splitting is not None else ""
    return Picture(uri, shown(listed.path), listed.label, f"{image.width} x {image.height}, {part}")


def data_uri(image: Image.Image) -> str:
    """A picture inside the page."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _samples(findings: Findings, channels: int) -> Iterator[tuple[Picture, list[str]]]:
    """Some images of some classes: the file's name, then how they are shown to a network."""
    from stages.data.samples import as_shown

    inventory = findings.inventory
    decode = Decoder.of(inventory, findings.resolution, channels)
    numbers = [number for number in _chosen(findings) if _is_there(decode, number)]
    label = {name: index for index, name in enumerate(findings.class_names)}
    view = View(
        resolution=findings.resolution,
        fit=findings.config.fit,
        augmentation=findings.config.augmentation.resolved(),
        classes=len(label),
    )
    labels_N = np.array([label[inventory.listing.images[number].label] for number in numbers], np.int64)
    if not numbers:
        return
    rows = as_shown(
        DecodedEachTime(decode, len(inventory.images)), numbers, labels_N, view, variants=VARIANTS, seed=0
    )
    for number, row in zip(numbers, rows, strict=True):
        listed = inventory.listing.images[number]
        yield Picture("", shown(listed.path), listed.label), [data_uri(_small(pixels)) for pixels in row]


def _chosen(findings: Findings) -> list[int]:
    """Training images of up to so many classes, the same at each look."""
    listed, draw = findings.inventory.listing.images, random.Random(0)
    parts = findings.splitting.parts if findings.splitting is not None else None
    of_class: dict[str, list[int]] = {}
    for number, image in enumerate(findings.inventory.images):
        if image.broken is None and (parts is None or parts.get(image.path) == "train"):
            of_class.setdefault(listed[number].label, []).append(number)
    names: Sequence[str] = sorted(of_class)
    if len(names) > MOST_CLASSES:
        names = sorted(draw.sample(names, MOST_CLASSES))
    return [
        number
        for name in names
        for number in sorted(draw.sample(of_class[name], min(IMAGES_OF_CLASS, len(of_class[name]))))
    ]


def _is_there(decode: Decoder, number: int) -> bool:
    """Whether an image can still be decoded: files may change between two looks."""
    try:
        decode(number)
    except IntegrityError:
        return False
    return True


def _small(pixels_HWC: Pixels) -> Image.Image:
    grey = pixels_HWC.shape[2] == 1
    image = Image.fromarray(pixels_HWC[..., 0] if grey else pixels_HWC)
    return image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR) if image.width != _SIDE else image
