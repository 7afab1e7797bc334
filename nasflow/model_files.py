"""Model files that a person names: read, and refused where they are none."""

from __future__ import annotations

from pathlib import Path

from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults
from nasflow.base.text import human_bytes, plain_line

MAX_BYTES = 2_000_000_000
_EXAMPLE = "artifacts/latest/network.tflite"


def read_model(path: Path) -> bytes:
    """The content of a `.tflite` file. Nothing of it is checked but that it may be one.

    Raises UsageError, MachineError.
    """
    from stages.conversion.file_check import looks_like_tflite, what_it_is_instead

    name = plain_line(str(path))
    if not path.is_file():
        raise UsageError(
            f"{name} {'is a folder' if path.is_dir() else 'does not exist'}.",
            hint=f"Give .tflite files, such as {_EXAMPLE}.",
        )
    with disk_faults(path, "read"):
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    if size > MAX_BYTES:
        raise UsageError(
            f"{name} has {human_bytes(size)}, and {human_bytes(MAX_BYTES)} are the most.",
            hint="Give a smaller model.",
        )
    if not looks_like_tflite(content):
        raise UsageError(
            f"{name} is not a .tflite model: {what_it_is_instead(content)}.",
            hint=f"Give files that TFLite can run, such as {_EXAMPLE}.",
        )
    return content
