"""The split file: what was written comes back, and nothing else is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow.base.errors import UsageError
from stages.data.split_file import (
    Present,
    SplitFile,
    SplitLine,
    is_inside,
    parse_split,
    read_split,
    split_bytes,
)
from stages.data.splitting import Shares

SHA = "0123456789abcdef" * 4
ODD_NAMES = [
    "кот/фото 1.png",
    "猫/写真.jpg",
    "قطة/صورة.png",
    "cat/line\nbreak.png",
    "cat/carriage\rreturn.png",
    "cat/para\u2029graph\u2028.png",
    'cat/"quoted", comma.png',
    "cat/e\u0301.png",
    "cat/\udcff\udc80.png",
    " cat / .png",
    "cat/👩‍👩‍👧.webp",
    "cat/...png",
]


def written(*lines: SplitLine, shared: bool = False) -> SplitFile:
    return SplitFile(tuple(sorted(lines, key=lambda line: line.path)), 3, Shares(), shared)


def present(split: SplitFile) -> list[Present]:
    return [Present(line.path, line.label, line.sha256) for line in split.lines]


TWO = written(
    SplitLine("cat/a.png", "cat", SHA, part="train"),
    SplitLine("dog/b.png", "dog", SHA, left_out="linked-to-test"),
)

names = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n\r\u2028\x85\udc80\udcff"), min_size=1
).filter(is_inside)
lines = st.builds(
    SplitLine,
    names,
    names,
    st.just(SHA),
    part=st.sampled_from(["train", "architecture", "choice", "test"]),
) | st.builds(SplitLine, names, names, st.just(SHA), left_out=st.just("conflicting-labels"))
splits = st.lists(lines, max_size=8, unique_by=lambda line: line.path).map(lambda found: written(*found))


@settings(max_examples=30)
@given(splits)
def test_what_was_written_comes_back(split: SplitFile) -> None:
    content = split_bytes(split)
    assert content.count(b"\n") == 1 + len(split.lines)
    assert read_split(content, present(split)) == split


def test_names_of_every_script_and_with_line_breaks_come_back() -> None:
    split = written(*(SplitLine(name, "cat", SHA, part="test") for name in ODD_NAMES))
    assert read_split(split_bytes(split), present(split)) == split


def test_equal_splits_give_equal_bytes() -> None:
    assert split_bytes(replace(TWO, lines=TWO.lines[::-1])) == split_bytes(TWO)


def test_the_header_says_how_the_split_was_made() -> None:
    assert json.loads(split_bytes(TWO).splitlines()[0]) == {
        "format": "nasflow-split",
        "version": 1,
        "seed": 3,
        "shares": {"architecture": 0.1, "choice": 0.1, "test": 0.2},
        "shared": False,
        "counts": {"left-out": 1, "train": 1},
    }


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_a_hint(content: bytes) -> None:
    with pytest.raises(UsageError) as error:
        parse_split(content)
    assert error.value.hint


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab\n\u2028", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\n\u2028", max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    st.sampled_from([0, 1, 2]),
    st.sampled_from(
        ["file_name", "label", "sha256", "part", "left_out", "version", "seed", "shares", "counts"]
    ),
    json_values,
)
def test_a_line_with_any_other_value_is_read_or_refused(number: int, key: str, value: Any) -> None:
    rows = [json.loads(row) for row in split_bytes(TWO).splitlines()]
    rows[number][key] = value
    try:
        split = parse_split("\n".join(json.dumps(row) for row in rows).encode())
    except UsageError as error:
        assert error.hint
    else:
        assert all(is_inside(line.path) for line in split.lines)


@settings(max_examples=50)
@given(st.integers(0, len(split_bytes(TWO)) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place: int, value: int) -> None:
    content = bytearray(split_bytes(TWO))
    content[place] = value
    try:
        parse_split(bytes(content))
    except UsageError as error:
        assert error.hint


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a.png", "cat/../../a.png", "cat//a.png", ".", "cat/", "a\0b"]
)
def test_a_path_that_leaves_the_folder_is_refused(path: str) -> None:
    content = split_bytes(written(SplitLine(path, "cat", SHA, part="train")))
    with pytest.raises(UsageError, match="not a plain path below the data folder"):
        parse_split(content)


def test_a_cut_file_is_refused() -> None:
    content = b"".join(split_bytes(TWO).splitlines(keepends=True)[:-1])
    with pytest.raises(UsageError, match="lines were lost or added"):
        parse_split(content)


def test_a_name_that_comes_twice_is_refused() -> None:
    first, *rest = split_bytes(TWO).splitlines(keepends=True)
    with pytest.raises(UsageError, match="more than once"):
        parse_split(first + b"".join(rest) + rest[0])


def test_another_version_is_refused() -> None:
    with pytest.raises(UsageError, match="has version 2; this nasflow reads version 1"):
        parse_split(split_bytes(TWO).replace(b'"version": 1', b'"version": 2'))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ([], r"2 images \(cat/a.png, dog/b.png\) are missing"),
        ([*present(TWO), Present("cat/new.png", "cat", SHA)], r"1 image \(cat/new.png\) is unknown to it"),
        (
            [replace(present(TWO)[0], sha256="f" * 64), present(TWO)[1]],
            r"1 image \(cat/a.png\) is changed since",
        ),
        (
            [replace(present(TWO)[0], label="dog"), present(TWO)[1]],
            r"1 image \(cat/a.png\) is of another class",
        ),
    ],
)
def test_images_that_the_file_does_not_fit_are_named(now: list[Present], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read_split(split_bytes(TWO), now, name="split.jsonl")
    assert error.value.message.startswith("split.jsonl")
    assert "unset data.split_file" in error.value.hint


def test_at_most_three_names_are_shown() -> None:
    split = written(*(SplitLine(f"{n}.png", "cat", SHA, part="test") for n in range(9)))
    with pytest.raises(UsageError, match=r"9 images \(0.png, 1.png, 2.png, ...\) are missing"):
        read_split(split_bytes(split), [])
