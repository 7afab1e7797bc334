from __future__ import annotations

from typing import Any

import pytest

from pipeline.freshness import differences


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", "changed from 1 to 2")]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [("a.b[1]", "changed from 2 to 3")]),
        ({"a": [1]}, {"a": [1, 2]}, [("a", "changed from [1] to [1, 2]")]),
        ({}, {"a": None}, [("a", "is new (null)")]),
        ({"a": "x"}, {}, [("a", "was removed (it was x)")]),
        ({"a": 1}, {"a": True}, [("a", "changed from 1 to true")]),
        ({"a": None}, {"a": {"b": 1}}, [("a", 'changed from null to {"b": 1}')]),
    ],
)
def test_differences_are_told_under_their_dotted_key(
    old: Any, new: Any, expected: list[tuple[str, str]]
) -> None:
    assert list(differences(old, new)) == expected


def test_long_values_are_cut() -> None:
    ((_, change),) = differences({"a": "x" * 100}, {"a": "y"})
    assert change == "changed from " + "x" * 45 + "... to y"
