"""One question to a phone and its answer, as it is stored: one line of JSON each."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from android_bench.device import DeviceInfo, Frozen, RuntimeOptions

MAX_BYTES = 20_000_000


def _bytes_from_json(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError("this is not base64") from error
    return value


def _bytes_to_json(value: bytes) -> str | dict[str, str]:
    """As text where it is text, so that a person can read it."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


Bytes = Annotated[
    bytes,
    BeforeValidator(_bytes_from_json),
    PlainSerializer(_bytes_to_json, when_used="json"),
    Field(max_length=MAX_BYTES),
]
Text = Annotated[str, Field(max_length=1_000_000)]
Name = Annotated[str, Field(max_length=1000)]


class Failure(Frozen):
    """The error that took the place of an answer."""

    kind: Literal["device-lost", "not-ready", "device-error"]
    message: Name
    hint: Name = ""
    raw: Text = ""
    state: Annotated[str, Field(max_length=100)] = ""


class Exchange(Frozen):
    """One call of a :class:`~android_bench.transport.Transport`. Times are in seconds since the first.

    ``connect`` is the search for the phone before there is one: what was found, or why none was.

    ``words`` are those of a command, ``path`` is the file of the phone that was pushed or pulled. Of what was
    pushed, size and hash are kept, and the ``text`` of nasflow's own scripts and notes.
    """

    part: Annotated[str, Field(max_length=40)]
    kind: Literal["run", "push", "pull", "state", "reconnect", "connect"]
    at_s: float = Field(ge=0)
    took_s: float = Field(ge=0)
    words: tuple[Text, ...] = Field(default=(), max_length=1000)
    stdout: Bytes = b""
    stderr: Bytes = b""
    exit_code: int | None = None
    path: Name = ""
    mode: int | None = None
    size_bytes: int | None = None
    sha256: Annotated[str, Field(max_length=64)] = ""
    text: Text | None = None
    content: Bytes | None = None
    state: Annotated[str, Field(max_length=100)] = ""
    failure: Failure | None = None


class Finding(Frozen):
    """What ``nasflow doctor`` concluded from a part."""

    name: Name
    state: Annotated[str, Field(max_length=20)]
    found: Text


class Header(Frozen):
    """The first line: what this is, and what nasflow made of it."""

    schema_version: Literal[1] = 1
    nasflow: Annotated[str, Field(max_length=60)]
    runtime: RuntimeOptions = RuntimeOptions()
    info: DeviceInfo | None = None
    findings: tuple[Finding, ...] = Field(default=(), max_length=1000)
