"""Published weights that a search or a training started from."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Record


class WeightsOrigin(Record):
    """Whose weights they are: for the report and the model card."""

    name: str = Field(description="as their publisher calls them")
    version: str = ""
    licence: str = Field(default="", description="as Apache-2.0; empty: not known")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file as it was published")
    url: str = Field(default="", description="where it is published")
