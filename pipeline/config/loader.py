"""The configuration: found upwards from a folder, read from YAML, overridden, validated.

Everything that is wrong with it becomes one ConfigError (exit code 2) that names file and line or the
option of the command line, the dotted key, the value seen, and the nearest known key.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.config.moved import Moved, new_key, old_entries, without
from pipeline.config.problems import (
    MOST_PROBLEMS,
    OUT_OF_RANGE,
    Problem,
    config_error,
    dotted,
    models_at,
    nearest_key,
    reason_and_hint,
)
from pipeline.config.yaml_text import MOST_BYTES, Key, YamlProblem, YamlText, parse_yaml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FILE_NAME = "pipeline.yaml"

Config = TypeVar("Config", bound=BaseModel)

_OPTION = "--set "
_UNREADABLE = {
    errno.ENOENT: ("there is no such file", "`nasflow init` writes one."),
    errno.EISDIR: ("this is a folder, not a file", f"Give the file in it: {FILE_NAME}."),
    errno.EACCES: ("you have no permission to read it", ""),
}


def find_config(start: Path) -> Path | None:
    """The nearest ``pipeline.yaml`` in ``start`` or a folder above it; None where there is none."""
    for folder in (start.absolute(), *start.absolute().parents):
        candidate = folder / FILE_NAME
        try:
            if candidate.is_file():
                return candidate
        except OSError:  # a folder that may not be entered has nothing for us
            continue
    return None


def _ignore(_notice: str) -> None:
    """For callers that have nobody to tell."""


def load_config(
    model: type[Config],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    tell: Callable[[str], None] = _ignore,
) -> Config:
    """The configuration in ``path`` (None: all defaults) with ``overrides`` such as ``search.epochs=40``.

    A section that is empty in the file has its defaults. The part behind ``=`` is read as YAML. Keys that the
    model lists as ``MOVED`` are read under their old names, too; ``tell`` is given the new name of each. Of
    keys that a model lists as ``ALTERNATIVES``, an override unsets the others. Raises ConfigError that lists
    all problems found.
    """
    draft = _Draft(model)
    if path is not None:
        draft.read_file(path)
    for override in overrides:
        draft.override(override)
    config = draft.validated(model)
    for notice in draft.notices:
        tell(notice)
    return config


class _Draft:
    """Plain data on their way to a model, and where each of them came from."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._tree: dict[str, Any] = {}
        self._locations: dict[Key, str] = {}
        self._root_place = ""
        self._problems: list[Problem] = []
        self._moved: Moved = getattr(model, "MOVED", {})
        self.notices: list[str] = []

    def read_file(self, path: Path) -> None:
        self._root_place = str(path)
        parsed = _parse(_read(path), str(path))
        if parsed.value is None:
            return
        if not isinstance(parsed.value, dict):
            reason = (
                "the file should contain sections such as `search:`, each with its keys on indented lines"
            )
            raise config_error([Problem(f"{path}, line 1", (), reason)])
        self._locations = {key: f"{path}, line {line}" for key, line in parsed.lines.items()}
        self._tree = without(parsed.value, self._moved)
        for section, entries in old_entries(parsed.value, self._moved):
            for key, value, renamed in entries:
                self._put_moved(key, value, renamed)
            new = new_key(section, self._moved)
            self._note(self._location(section), section, [new] if new else list(entries[0][2]))

    def _put_moved(self, key: Key, value: Any, entries: Mapping[Key, Any]) -> None:
        """Put the values of an old key where they stand today, and note the new name."""
        location = self._location(key)
        for new, inner in entries.items():
            section = self._opened(new[:-1])
            if section is None:
                continue
            if str(new[-1]) in section:
                reason = f"it is the old name of {dotted(new)}, which is also set ({self._location(new)})"
                self._problems.append(Problem(location, key, reason, "Remove one of the two.", value))
                continue
            section[str(new[-1])] = inner
            self._locations[new] = location
            for known in [known for known in self._locations if known[: len(key)] == key and known != key]:
                self._locations[(*new, *known[len(key) :])] = self._locations[known]

    def _opened(self, key: Key) -> dict[str, Any] | None:
        """The section at a key, which is made; None where a value stands there, which validation refuses."""
        section = self._tree
        for part in key:
            below = section.get(str(part))
            if below is None:
                below = section[str(part)] = {}
            if not isinstance(below, dict):
                return None
            section = below
        return section

    def _note(self, location: str, key: Key, new: Sequence[Key]) -> None:
        names = " and ".join(map(dotted, new))
        news = f"is now called {names}" if names else "has no effect any more"
        self.notices.append(f"{location}: {dotted(key)} {news}; the next version will reject the old key.")

    def override(self, text: str) -> None:
        location = f"{_OPTION}{text}"
        name, equals, value = text.partition("=")
        key: Key = tuple(part.strip() for part in name.split("."))
        if not equals or not all(key):
            reason = "this is not of the form KEY=VALUE"
            raise config_error([Problem(location, (), reason, "For example: --set search.epochs=40")])
        parsed = _parse(value, location, key)
        if (new := new_key(key, self._moved)) is not None:
            self._note(location, key, [new])
            if parsed.value is None and self._unset_alternatives(new):
                return
            self._set(location, new, parsed.value)
            return
        given = _nested(key, parsed.value)
        moved = list(old_entries(given, self._moved))
        rest = _at(without(given, self._moved), key)
        if rest or not moved:
            self._set(location, key, rest)
        for old, entries in moved:
            for _, _, renamed in entries:
                self._note(location, old, list(renamed))
                for inner, entry in renamed.items():
                    self._set(location, inner, entry)

    def _unset_alternatives(self, key: Key) -> bool:
        """Unset what the file says of a section's alternatives; False where it has none.

        An old section that held nothing else was unset as a whole: ``search.target=null``.
        """
        groups = [g for owner in models_at(self._model, key) for g in getattr(owner, "ALTERNATIVES", ())]
        section = self._tree.get(str(key[0]))
        for name in (name for group in groups for name in group):
            if isinstance(section, dict) and not self._location((*key, name)).startswith(_OPTION):
                section.pop(name, None)
        return bool(groups)

    def _set(self, location: str, key: Key, value: Any) -> None:
        section = self._tree
        for depth, part in enumerate(key[:-1], start=1):
            inner = section.get(str(part))
            if inner is None:
                inner = section[str(part)] = {}
            elif not isinstance(inner, dict):
                reason = f"{dotted(key[:depth])} is a single value and has no keys of its own"
                self._problems.append(Problem(location, key, reason, value=value))
                return
            section = inner
        for alternative in self._alternatives(key) if value is not None else ():
            section.pop(alternative, None)
        section[str(key[-1])] = value
        for inner_key in [known for known in self._locations if known[: len(key)] == key]:
            del self._locations[inner_key]
        self._locations[key] = location

    def _alternatives(self, key: Key) -> list[str]:
        """The keys beside ``key`` of which at most one may be set."""
        groups = [g for owner in models_at(self._model, key[:-1]) for g in getattr(owner, "ALTERNATIVES", ())]
        return [name for group in groups if key[-1] in group for name in group if name != key[-1]]

    def validated(self, model: type[Config]) -> Config:
        tree = self._known_part(self._tree, ())
        try:
            config = model.model_validate(tree)
        except ValidationError as error:
            self._explain(tree, error)
            raise config_error(self._problems) from error
        self._refuse_booleans_as_numbers(tree, config, ())
        if self._problems:
            raise config_error(self._problems)
        return config

    def _known_part(self, tree: Mapping[str, Any], parents: Key) -> dict[str, Any]:
        """The tree without unknown keys, which become problems, and with {} for empty sections."""
        models = models_at(self._model, parents)
        closed = len(models) == 1 and models[0].model_config.get("extra") != "allow"
        known: dict[str, Any] = {}
        for name, value in tree.items():
            key = (*parents, name)
            if closed and name not in models[0].model_fields:
                hint = nearest_key(self._model, key) if len(self._problems) < MOST_PROBLEMS else ""
                self._problems.append(Problem(self._location(key), key, "there is no such key", hint, value))
                continue
            is_section = closed and _is_model(models[0].model_fields[name].annotation)
            if is_section and value is None:
                value = {}
            known[name] = self._known_part(value, key) if is_section and isinstance(value, dict) else value
        return known

    def _explain(self, tree: Mapping[str, Any], error: ValidationError) -> None:
        found: dict[Key, list[ErrorDetails]] = {}
        for details in error.errors(include_url=False):
            if _counts_good_items_alone(details):
                continue
            found.setdefault(_existing(tree, details), []).append(details)
        for key, several in found.items():
            # Of a union's members the one of the value's type has the say: -1 is too small, not "no section".
            several = [details for details in several if details["type"] in OUT_OF_RANGE] or several
            explained = [reason_and_hint(self._model, key, details) for details in several]
            reasons = list(dict.fromkeys(reason for reason, _ in explained))
            hint = next((hint for _, hint in explained if hint), "")
            problem = Problem(self._location(key), key, ", or ".join(reasons), hint)
            value = several[0]["input"]
            if several[0]["type"] == "value_error" and isinstance(value, dict):
                # Keys that do not go together: no single value is wrong, and what was added last may be.
                problem = replace(problem, location=self._overrides_below(key) or problem.location)
            elif several[0]["type"] != "missing":
                problem = replace(problem, value=value)
            self._problems.append(problem)

    def _refuse_booleans_as_numbers(self, raw: Any, value: Any, key: Key) -> None:
        """pydantic reads true as 1."""
        if isinstance(raw, bool) and isinstance(value, int | float) and not isinstance(value, bool):
            self._problems.append(Problem(self._location(key), key, "it should be a number", "", raw))
        elif isinstance(raw, dict):
            for name, inner in raw.items():
                below = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
                self._refuse_booleans_as_numbers(inner, below, (*key, name))
        elif isinstance(raw, list) and isinstance(value, list | tuple) and len(raw) == len(value):
            for index, (inner, below) in enumerate(zip(raw, value, strict=True)):
                self._refuse_booleans_as_numbers(inner, below, (*key, index))

    def _overrides_below(self, key: Key) -> str:
        """Options of the command line that set keys of a section; empty where there are none."""
        locations = (location for known, location in self._locations.items() if known[: len(key)] == key)
        return ", ".join(location for location in locations if location.startswith(_OPTION))

    def _location(self, key: Key) -> str:
        for length in range(len(key), 0, -1):
            if key[:length] in self._locations:
                return self._locations[key[:length]]
        below = (location for known, location in self._locations.items() if key and known[: len(key)] == key)
        return next(below, self._root_place)


def _at(tree: Any, key: Key) -> Any:
    for part in key:
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _nested(key: Key, value: Any) -> dict[str, Any]:
    for part in reversed(key):
        value = {str(part): value}
    return dict(value)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        reason, hint = _UNREADABLE.get(
            error.errno or 0, (f"it cannot be read ({error.strerror or error})", "")
        )
        raise config_error([Problem(str(path), (), reason, hint)]) from error
    except ValueError as error:  # a NUL in the name
        raise config_error([Problem(repr(str(path)), (), "this cannot be a file's name")]) from error
    if len(data) > MOST_BYTES:
        reason = f"it is larger than {MOST_BYTES // 1_000_000} MB, which is too large for a configuration"
        raise config_error([Problem(str(path), (), reason, "Is this the right file?")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"byte 0x{data[error.start]:02x} is not UTF-8"
        hint = "Save the file with the encoding UTF-8."
        raise config_error([Problem(f"{path}, line {line}", (), reason, hint)]) from error


def _parse(text: str, location: str, parents: Key = ()) -> YamlText:
    try:
        return parse_yaml(text)
    except YamlProblem as problem:
        if problem.line and not parents:
            location = f"{location}, line {problem.line}"
        raise config_error(
            [Problem(location, (*parents, *problem.key), problem.reason, problem.hint)]
        ) from problem


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _counts_good_items_alone(details: ErrorDetails) -> bool:
    """Whether a list is called too short only because pydantic does not count items that are wrong."""
    given, context = details["input"], details.get("ctx", {})
    return (
        details["type"] == "too_short"
        and isinstance(given, list | tuple)
        and len(given) >= context["min_length"]
    )


def _existing(tree: Any, details: ErrorDetails) -> Key:
    """Where in the tree an error stands: pydantic adds names of union members to its path."""
    *_, last = details["loc"] or ("",)
    key: list[str | int] = []
    for part in details["loc"]:
        locations = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
        if part in locations:
            tree = tree[part]
            key.append(part)
        elif details["type"] == "missing" and part == last:
            key.append(part)
    return tuple(key)
