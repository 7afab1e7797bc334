"""The text of a configuration, made from the descriptions of its keys: a file to edit, and a reference."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.problems import dotted
from pipeline.config.yaml_text import Key

_WIDTH = 118
_COMMENT = 31
_LONGEST_ENTRY = 60
_SIGNS: Mapping[type, tuple[str, str]] = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}

Skip = Callable[[Key], bool]


def as_yaml(config: BaseModel, skip: Skip = lambda _key: False) -> str:
    """Every key of a configuration with its value and its description; unset ones are comments.

    ``skip`` tells keys that are left out.
    """
    return "\n".join(_yaml_lines(config, (), skip)) + "\n"


def as_markdown(model: type[BaseModel], skip: Skip = lambda _key: False) -> str:
    """Tables of all keys, one for each section, with default values, allowed values and descriptions."""
    single = {name: field for name, field in model.model_fields.items() if not _is_section(field)}
    parts = [_table(single, ())]
    parts += [part for name, field in model.model_fields.items() for part in _section((name,), field, skip)]
    return "\n\n".join(parts) + "\n"


def _yaml_lines(config: BaseModel, parents: Key, skip: Skip) -> Iterator[str]:
    indent = "  " * len(parents)
    for name, field in type(config).model_fields.items():
        key = (*parents, name)
        if skip(key):
            continue
        value = getattr(config, name)
        description = field.description or ""
        if isinstance(value, BaseModel):
            if not parents:
                yield ""
            width = _WIDTH - len(indent) - 2
            yield from (f"{indent}# {line}" for line in textwrap.wrap(_sentence(description), width))
            yield f"{indent}{name}:"
            yield from _yaml_lines(value, key, skip)
        elif value is None or value == ():
            yield from _commented(f"{indent}# {name}: {_example(field)}", description)
        else:
            yield from _commented(f"{indent}{name}: {_scalar(value)}", description)


def _commented(entry: str, description: str) -> Iterator[str]:
    if len(entry) > _LONGEST_ENTRY:  # as a long path: its description stands below
        yield entry
        yield from (f"{'':<{_COMMENT}}# {line}" for line in textwrap.wrap(description, _WIDTH - _COMMENT - 2))
        return
    column = max(_COMMENT, len(entry) + 2)
    first, *rest = textwrap.wrap(description, _WIDTH - column - 2) or [""]
    yield f"{entry:<{column}}# {first}"
    yield from (f"{'':<{column}}# {line}" for line in rest)


def _example(field: FieldInfo) -> str:
    example = (field.examples or [None])[0]
    return example if isinstance(example, str) else _scalar(example)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value)
    if isinstance(value, float):
        # YAML 1.1 readers take 4e-05 for text.
        return f"{value:f}".rstrip("0") if 0 < abs(value) < 1e-3 else repr(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _is_plain(text: str) -> bool:
    """Whether YAML reads a text without quotes as that text: a path may hold anything."""
    import yaml  # not for --help

    try:
        return bool(text.isprintable() and yaml.safe_load(f"key: {text}") == {"key": text})
    except yaml.YAMLError:
        return False


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _section(key: Key, field: FieldInfo, skip: Skip) -> Iterator[str]:
    model = field.annotation
    if not isinstance(model, type) or not issubclass(model, BaseModel) or skip(key):
        return
    fields = {name: inner for name, inner in model.model_fields.items() if not skip((*key, name))}
    single = {name: inner for name, inner in fields.items() if not _is_section(inner)}
    yield f"## {dotted(key)}"
    yield _sentence(field.description or "")
    if single:
        yield _table(single, key)
    for name, inner in fields.items():
        yield from _section((*key, name), inner, skip)


def _table(fields: Mapping[str, FieldInfo], parents: Key) -> str:
    rows = ["| Key | Default | Allowed | Meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = "unset" if field.default in (None, ()) else f"`{_scalar(field.default)}`"
        cells = (f"`{dotted((*parents, name))}`", default, _allowed(field), field.description or "")
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows)


def _choices(annotation: Any) -> Iterator[str]:
    """The words of a literal, with whatever else may stand in their place; nothing where there is none."""
    if "Literal" not in str(annotation):
        return
    for member in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield f"`{member}`"
        elif get_origin(member) is Literal:
            yield from _choices(member)
        elif member is not NoneType:
            yield _kind(get_args(member)[0] if get_origin(member) is Annotated else member)


def _allowed(field: FieldInfo) -> str:
    """The limits that the key's type states, such as ``3 to 1000`` or one of some words."""
    if choices := list(_choices(field.annotation)):
        return ", ".join(choices)
    kind = _kind(field.annotation)
    limits = [
        f"{sign} {getattr(constraint, name):g}"
        for constraint in field.metadata
        for name, sign in [_SIGNS.get(type(constraint), ("", ""))]
        if name
    ]
    if any(isinstance(part, MinLen) and part.min_length for part in field.metadata):
        limits.append("not empty")
    if lengths := [part.max_length for part in field.metadata if isinstance(part, MaxLen)]:
        limits.append(f"at most {lengths[0]} items")
    return ", ".join([kind, *limits])


def _kind(annotation: Any) -> str:
    text = str(annotation)
    kinds = {"tuple": "list", "bool": "true or false", "str": "text", "int": "whole number"}
    return next((name for sign, name in kinds.items() if sign in text), "number")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
