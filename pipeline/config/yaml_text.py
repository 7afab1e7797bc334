"""YAML as plain data with line numbers: a small, safe part of the language, read the 1.2 way.

Text, numbers, true/false, null, lists and mappings with text keys. What surprises people or machines is
refused: duplicate keys, anchors and aliases, tags, several documents, deep nesting. ``yes``, ``on``, ``010``
and ``1:30`` are not turned into something else, as YAML 1.1 would: ``1e-3`` is a number, as people expect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml.events import Event, MappingStartEvent, ScalarEvent

Key = tuple[str | int, ...]

MOST_BYTES = 1_000_000
_MOST_DEPTH = 40
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


class YamlProblem(ValueError):
    """Why a text is refused, and where: ``line`` counts from 1, 0 where it is not known."""

    def __init__(self, reason: str, *, line: int = 0, key: Key = (), hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.key = key
        self.hint = hint


@dataclass(frozen=True)
class YamlText:
    """What a text holds; ``lines`` says for every key and list item on which line it stands."""

    value: Any
    lines: Mapping[Key, int]


def parse_yaml(text: str) -> YamlText:
    """Read one document; an empty text is None. Raises YamlProblem, and nothing else."""
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        return _Builder(yaml.parse(text, Loader=loader)).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise _syntax_problem(text, line, error.problem or str(error)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlProblem("the text contains a control character", line=line) from error
    except yaml.YAMLError as error:
        raise YamlProblem(f"this is not YAML ({error})") from error
    except UnicodeError as error:  # a lone surrogate
        raise YamlProblem("a character is not valid Unicode") from error


def parse_scalar(text: str) -> Any:
    """A plain (not quoted) scalar's value, as YAML 1.2's core schema reads it."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in _NOT_FINITE:
        return float(_NOT_FINITE[text.lower()])
    return text


def _syntax_problem(text: str, line: int, problem: str) -> YamlProblem:
    rows = text.splitlines()
    row = rows[line - 1] if 0 < line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return YamlProblem("the line is indented with a tab; YAML requires spaces", line=line)
    return YamlProblem(
        f"this is not YAML: {problem}", line=line, hint="Is a quote, bracket or colon missing?"
    )


@dataclass
class _Builder:
    events: Iterator[Event]
    lines: dict[Key, int] = field(default_factory=dict)

    def document(self) -> YamlText:
        from yaml import events

        value: Any = None
        documents = 0
        for event in self.events:
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlProblem(
                        "only one document is expected; a second one begins here", line=_line(event)
                    )
            elif isinstance(event, events.NodeEvent):
                value = self._node(event, ())
        return YamlText(value, self.lines)

    def _node(self, event: Event, key: Key) -> Any:
        from yaml import events

        line = _line(event)
        if isinstance(event, events.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise YamlProblem(
                "anchors (&) and aliases (*) are not supported",
                line=line,
                key=key,
                hint="Write the value out, or put text that begins with & or * in quotes.",
            )
        if getattr(event, "tag", None) is not None:
            raise YamlProblem(
                f"the tag {getattr(event, 'tag', '')} is not supported",
                line=line,
                key=key,
                hint="Put text that begins with ! in quotes.",
            )
        if len(key) > _MOST_DEPTH:
            raise YamlProblem(f"it is nested more than {_MOST_DEPTH} levels deep", line=line)
        if isinstance(event, events.ScalarEvent):
            return _scalar(event)
        if isinstance(event, events.MappingStartEvent):
            return self._mapping(event, key)
        items: list[Any] = []
        while not isinstance(event := next(self.events), events.SequenceEndEvent):
            location = (*key, len(items))
            self.lines[location] = _line(event)
            items.append(self._node(event, location))
        return items

    def _mapping(self, start: MappingStartEvent, key: Key) -> dict[str, Any]:
        from yaml import events

        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), events.MappingEndEvent):
            line = _line(event)
            name = _scalar(event) if isinstance(event, events.ScalarEvent) and event.anchor is None else None
            if not isinstance(name, str):
                shown = f" {event.value}" if isinstance(event, events.ScalarEvent) else ""
                raise YamlProblem(
                    f"the key{shown} is not text",
                    line=line,
                    key=key,
                    hint="Put it in quotes if it should be text.",
                )
            location = (*key, name)
            if name in found:
                raise YamlProblem(
                    f"the key appears twice; the first is in line {self.lines[location]}",
                    line=line,
                    key=location,
                    hint="Delete one of the two.",
                )
            self.lines[location] = line
            found[name] = self._node(next(self.events), location)
        return found


def _scalar(event: ScalarEvent) -> Any:
    plain = bool(event.implicit[0])
    return parse_scalar(event.value) if plain else event.value


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
