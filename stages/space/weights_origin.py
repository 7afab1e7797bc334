"""Whose weights a network started from, as data."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Record


class WeightsOrigin(Record):
    """The origin of pretrained weights: for fingerprints, report and model card."""

    name: str
    version: str = ""
    licence: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file as its author published it")
    url: str = ""
