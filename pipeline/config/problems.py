"""What is wrong with a configuration, in words that someone who never saw pydantic understands."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from nasflow.base.errors import ConfigError
from pipeline.config.yaml_text import Key

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST_PROBLEMS = 10
_MOST_CHARACTERS = 60
_NO_VALUE = object()

_WHOLE_NUMBER = "it should be a whole number"
_NUMBER = "it should be a number"
_SECTION = "it should be a section: its keys on indented lines below it"
OUT_OF_RANGE = frozenset(
    {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number"}
)
"""What pydantic says of a value that has the right type."""
_REASONS = {
    "missing": "it must be set",
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_parsing_size": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "it should be a finite number",
    "bool_type": "it should be true or false",
    "bool_parsing": "it should be true or false",
    "string_type": "it should be text",
    "none_required": "it should be empty (null)",
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dict_type": _SECTION,
    "list_type": "it should be a list, such as [1, 2]",
    "tuple_type": "it should be a list, such as [1, 2]",
    "greater_than": "it should be greater than {gt}",
    "greater_than_equal": "it should be at least {ge}",
    "less_than": "it should be less than {lt}",
    "less_than_equal": "it should be at most {le}",
    "multiple_of": "it should be a multiple of {multiple_of}",
    "literal_error": "it should be {expected}",
    "enum": "it should be {expected}",
    "string_pattern_mismatch": "it should match the pattern {pattern}",
    "string_too_short": "it should have at least {min_length} characters",
    "string_too_long": "it should have at most {max_length} characters",
    "too_short": "it should have at least {min_length} items",
    "too_long": "it should have at most {max_length} items",
    "extra_forbidden": "there is no such key",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; ``place`` is a file and line or an option of the command line."""

    location: str
    key: Key
    reason: str
    hint: str = ""
    value: Any = _NO_VALUE

    @property
    def sentence(self) -> str:
        """``pipeline.yaml, line 3: search.epochs = "many": it should be a whole number.``"""
        subject = dotted(self.key)
        if self.location.startswith(f"--set {subject}="):
            subject = ""
        if subject and self.value is not _NO_VALUE:
            subject += f" = {shown(self.value)}"
        return ": ".join(part for part in (self.location, subject, self.reason) if part) + "."


def config_error(problems: Sequence[Problem]) -> ConfigError:
    """All problems as one error; its attributes are those of the first."""
    first = problems[0]
    value = None if first.value is _NO_VALUE else first.value
    if len(problems) == 1:
        message, hint = first.sentence, first.hint
    else:
        listed = [
            f"  ({number}) {problem.sentence} {problem.hint}".rstrip()
            for number, problem in enumerate(problems[:MOST_PROBLEMS], start=1)
        ]
        rest = len(problems) - len(listed)
        listed += [f"  and {rest} more."] if rest else []
        message, hint = "\n".join([f"{len(problems)} problems in the configuration:", *listed]), ""
    return ConfigError(message, source=first.location, key=dotted(first.key), value=value, hint=hint)


def dotted(key: Key) -> str:
    """``search.stages[2].width``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """A value as it would stand in the file, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


def reason_and_hint(model: type[BaseModel], key: Key, error: ErrorDetails) -> tuple[str, str]:
    """One of pydantic's findings in plain words; ``key`` is where it was found."""
    kind, context = error["type"], dict(error.get("ctx", {}))
    if kind == "extra_forbidden":
        return _REASONS[kind], nearest_key(model, key)
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", error["msg"])).rstrip("."), ""
    if kind not in _REASONS:
        message = error["msg"].rstrip(".")
        return message[:1].lower() + message[1:], ""
    reason = _REASONS[kind].format_map(context)
    value = error["input"]
    if kind == "string_type" and isinstance(value, int | float):
        return reason, f'Put it in quotes: "{shown(value)}".'
    if kind in ("literal_error", "enum") and isinstance(value, str):
        choices = [part.strip("' ") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        nearest = difflib.get_close_matches(value, choices, n=1)
        return reason, f"Did you mean {nearest[0]}?" if nearest else ""
    return reason, ""


def nearest_key(model: type[BaseModel], key: Key) -> str:
    """A hint at the key that was probably meant, here or in another section."""
    name, parents = str(key[-1]), key[:-1]
    here = {
        field: dotted((*parents, field))
        for found in models_at(model, parents)
        for field in found.model_fields
    }
    everywhere = list(_all_keys(model))
    matches = (
        _close(name, here, 0.8)
        or [path for path in everywhere if path.rpartition(".")[2] == name][:3]
        or _close(name, here, 0.6)
        or _close(name, {path.rpartition(".")[2]: path for path in reversed(everywhere)}, 0.75)
    )
    if matches:
        return f"Did you mean {' or '.join(matches)}?"
    section = f"in {dotted(parents)}" if parents else "at the top level"
    return f"Known keys {section}: {', '.join(here)}." if here else ""


def models_at(model: type[BaseModel], key: Key) -> list[type[BaseModel]]:
    """The models that may stand at ``key``: none where it is a plain value."""
    found = [model]
    for part in key:
        if isinstance(part, str):
            fields = [owner.model_fields[part] for owner in found if part in owner.model_fields]
            found = [inner for field in fields for inner in _models_in(field.annotation)]
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _all_keys(model: type[BaseModel], prefix: Key = ()) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield dotted((*prefix, name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, (*prefix, name))


def _close(name: str, choices: dict[str, str], cutoff: float) -> list[str]:
    return [choices[match] for match in difflib.get_close_matches(name, choices, n=1, cutoff=cutoff)]
