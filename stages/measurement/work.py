"""What is to be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.measurement.repetition import Repeatable


@dataclass(frozen=True)
class Work:
    """What is to be timed.

    ``anchor`` is a model (by name, like the others) that is timed between them; ``reference_ms`` its time
    where an earlier series has found it. ``rivals`` are groups of models of which only the fastest will be
    used: one that is far behind after the first round drops out. Models that are ``repeatable`` are made
    longer where the device's clock is too coarse for them; ``invoke`` names the model that does next to
    nothing, whose time is no part of theirs. ``kinds``: models that other programs slow alike, by a word.
    ``in_units``: the models' times are wanted in units of the anchor's, as those of whole networks are. Each
    of its timings then has a process of its own: where it lies in the memory of one is in all ratios alike.
    """

    models: Mapping[str, bytes]
    anchor: tuple[str, bytes] | None = None
    reference_ms: float | None = None
    rivals: Sequence[Sequence[str]] = ()
    repeatable: Mapping[str, Repeatable] = field(default_factory=dict)
    invoke: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    in_units: bool = False
