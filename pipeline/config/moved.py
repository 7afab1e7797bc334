"""Keys that have a new name, or none: an old file is read, and the user is told what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.config.yaml_text import Key

Rewrite = Callable[[Any], Mapping[str, Any] | None]
"""From the old value to the values of the new keys; None: the value is one that the key has today."""
Moved = Mapping[str, "str | Rewrite | None"]
"""Old dotted key -> new dotted key, of a value or a whole section; None: it has no effect any more."""


def new_key(key: Key, moved: Moved) -> Key | None:
    """The key that replaces ``key``; None where it is not an old one, or several keys replace it."""
    for length in range(len(key), 0, -1):
        target = moved.get(".".join(map(str, key[:length])))
        if isinstance(target, str):
            return (*target.split("."), *key[length:])
        if target is not None:
            return None
    return None


Entry = tuple[Key, Any, Mapping[Key, Any]]
"""An old key, its value, and the values of the keys that replace it."""


def old_entries(tree: Mapping[str, Any], moved: Moved) -> Iterator[tuple[Key, list[Entry]]]:
    """The old keys of a file, each with its entries: of a section that has moved, one for each key."""
    for old, target in moved.items():
        key: Key = tuple(old.split("."))
        value = _value_at(tree, key)
        if value is _NOTHING:
            continue
        if target is None:
            yield key, [(key, value, {})]
        elif not isinstance(target, str):
            if (values := target(value)) is not None:
                yield key, [(key, value, {tuple(new.split(".")): inner for new, inner in values.items()})]
        elif isinstance(value, Mapping) and value:
            new: Key = tuple(target.split("."))
            yield key, [((*key, name), inner, {(*new, name): inner}) for name, inner in value.items()]
        else:
            yield key, [(key, value, {tuple(target.split(".")): value})]


def without(tree: Mapping[str, Any], moved: Moved) -> dict[str, Any]:
    """The tree without its old entries, and without sections that held nothing else."""

    def rest(inner: Mapping[str, Any], parents: tuple[str, ...]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in inner.items():
            key = (*parents, name)
            if _is_old(".".join(key), value, moved):
                continue
            below = rest(value, key) if isinstance(value, Mapping) else value
            if below or not value:
                kept[name] = below
        return kept

    return rest(tree, ())


def _is_old(name: str, value: Any, moved: Moved) -> bool:
    """Whether a key, with this value, is one of an older version."""
    target = moved.get(name, _NOTHING)
    if target is _NOTHING:
        return False
    return target is None or isinstance(target, str) or target(value) is not None


_NOTHING: Any = object()


def _value_at(tree: Any, key: Key) -> Any:
    for part in key:
        if not isinstance(tree, Mapping) or part not in tree:
            return _NOTHING
        tree = tree[part]
    return tree
