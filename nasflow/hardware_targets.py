"""``--devices local,local@threads=2,onnxruntime``: devices with runtime settings, by a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from android_bench.device import RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.cli.request import as_yaml

_SETTINGS = tuple(RuntimeOptions.model_fields)
FEWEST = 2


@dataclass(frozen=True)
class NamedTarget:
    """One of the list: what it is called, and the assignments that make a configuration of it."""

    name: str
    overrides: tuple[str, ...]


def parse_targets(text: str) -> tuple[NamedTarget, ...]:
    """The targets of a list.

    Each is a device's name, with settings of the section ``runtime`` behind ``@``:
    ``local@threads=2@precision=int8``. Raises UsageError for an unknown setting, for fewer than two targets,
    and for one that is listed twice.
    """
    targets = tuple(_target(word.strip()) for word in text.split(",") if word.strip())
    names = [target.name for target in targets]
    if len(targets) < FEWEST:
        raise UsageError(
            f"--devices {text!r} names {len(targets)} device{'s' if len(targets) != 1 else ''}; a comparison "
            f"takes {FEWEST} or more.",
            hint="For example: --devices local,local@threads=2,onnxruntime.",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"--devices names {twice[0]} twice.", hint="Name each device with its settings once."
        )
    return targets


def _target(word: str) -> NamedTarget:
    device, *settings = word.split("@")
    assignments = [f"device={as_yaml(device)}"]
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in _SETTINGS or not equals:
            raise UsageError(
                f"--devices: {setting!r} in {word!r} is no setting of the section runtime.",
                hint=f"Write DEVICE@KEY=VALUE, with one of {', '.join(_SETTINGS)}.",
            )
        assignments.append(f"runtime.{key}={value}")
    return NamedTarget(word, tuple(assignments))


def labels(targets: Sequence[NamedTarget]) -> str:
    """``local, local@threads=2 and onnxruntime``."""
    *first, last = (target.name for target in targets)
    return f"{', '.join(first)} and {last}"
