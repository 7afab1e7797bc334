"""The name and version of a shipped network, as Maven, Gradle and Android take them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from nasflow.base.errors import UsageError
from stages.data.names import shown

GROUP = "nasflow"
MOST_CHARACTERS = 100
_RULE = (
    "Letters (a-z, A-Z), digits, '.', '-' and '_' are allowed; it begins and ends with a letter or digit, "
    f"has no '..', and at most {MOST_CHARACTERS} characters."
)
_PART = re.compile(r"(?!.*\.\.)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
# Maven takes these for the newest version and the newest release.
_RESERVED = frozenset({"latest", "release"})


@dataclass(frozen=True)
class Coordinates:
    """``nasflow:NAME:VERSION``. Raises UsageError where name or version is none that Maven takes.

    Maven allows a little more in versions; what is excluded here means something else to a shell, to a file
    system or to Gradle (``+`` and brackets are ranges of versions).
    """

    name: str
    version: str

    def __post_init__(self) -> None:
        _check("name", self.name, "--name")
        _check("version", self.version, "--version")
        if self.version.lower().endswith("-snapshot") or self.version.lower() in _RESERVED:
            raise UsageError(
                f"the version {self.version} is reserved: Maven reads it as a version that changes.",
                hint="Give each package a version of its own: --version 1.0.0.",
            )

    @property
    def folder(self) -> str:
        """The package's folder: ``NAME-VERSION``."""
        return f"{self.name}-{self.version}"

    @property
    def gradle(self) -> str:
        """As a build file names it: ``nasflow:NAME:VERSION``."""
        return f"{GROUP}:{self.name}:{self.version}"

    @property
    def android_package(self) -> str:
        """A Java package's name (Android's namespace): other names, other packages."""
        word = re.sub(r"[^a-z0-9]", "_", self.name.lower())
        if word != self.name:
            word += f"_{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"
        return f"{GROUP}.models.m_{word}"


def proposed_name(text: str) -> str:
    """A valid name that resembles ``text``; ``classifier`` where nothing of it can stay."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MOST_CHARACTERS].strip("-") or "classifier"


def _check(what: str, value: str, option: str) -> None:
    if len(value) <= MOST_CHARACTERS and _PART.fullmatch(value):
        return
    example = proposed_name(value) if what == "name" else "1.0.0"
    raise UsageError(
        f"the {what} '{shown(value)[: 2 * MOST_CHARACTERS]}' cannot be a Maven coordinate. {_RULE}",
        hint=f"Choose another one: {option} {example}",
    )
