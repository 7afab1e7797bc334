from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasflow.base.errors import MachineError
from pipeline.events import Event, Message
from pipeline.store.scratch import FolderScratch, log_line, parse_log

ROWS: list[dict[str, Any]] = [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "note": "Zürich\n"}, {}]
json_rows = st.dictionaries(
    st.text(max_size=5),
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
)


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def scratch(tmp_path: Path, heard: list[Event]) -> FolderScratch:
    return FolderScratch(tmp_path / "scratch" / "search-0123456789abcdef", "search", heard.append)


def log_path(scratch: FolderScratch) -> Path:
    return scratch.folder / "epochs.log"


def write_rows(scratch: FolderScratch) -> None:
    for row in ROWS:
        scratch.append("epochs", row)


def test_an_entry_comes_back_and_can_be_replaced(scratch: FolderScratch, heard: list[Event]) -> None:
    assert scratch.load("checkpoint") is None
    for payload in (b"", b"weights", bytes(range(256)) * 500):
        scratch.save("checkpoint", payload)
        assert scratch.load("checkpoint") == payload
    assert heard == []


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "headless"])
def test_a_damaged_entry_is_named_dropped_and_none(
    scratch: FolderScratch, heard: list[Event], damage: str
) -> None:
    scratch.save("checkpoint", b"weights")
    (path,) = scratch.folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-1], "flip": whole[:-1] + b"z", "empty": b"", "headless": b"weights"}[damage]
    )
    assert scratch.load("checkpoint") is None
    (warning,) = heard
    assert isinstance(warning, Message)
    assert (warning.stage, warning.level) == ("search", "warning")
    assert str(path) in warning.text
    assert not path.exists()
    assert scratch.load("checkpoint") is None
    assert len(heard) == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/x", ".hidden", "a\0b", "x" * 101, "a b", "ä"]
)
def test_a_name_that_could_leave_the_folder_is_refused(scratch: FolderScratch, name: str) -> None:
    calls = [
        lambda: scratch.save(name, b""),
        lambda: scratch.load(name),
        lambda: scratch.append(name, {}),
        lambda: scratch.rows(name),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="scratch name"):
            call()


def test_rows_come_back_in_order(scratch: FolderScratch, heard: list[Event]) -> None:
    assert scratch.rows("epochs") == []
    write_rows(scratch)
    assert scratch.rows("epochs") == ROWS
    assert heard == []


def test_an_entry_and_a_log_may_have_the_same_name(scratch: FolderScratch) -> None:
    scratch.append("a", {"x": 1})
    scratch.save("a", b"entry")
    assert scratch.rows("a") == [{"x": 1}]
    assert scratch.load("a") == b"entry"


def test_a_torn_last_line_is_dropped_silently_wherever_it_is_torn(
    scratch: FolderScratch, heard: list[Event]
) -> None:
    write_rows(scratch)
    whole = log_path(scratch).read_bytes()
    last = len(log_line(ROWS[-1]))
    for cut in range(1, last + 1):
        log_path(scratch).write_bytes(whole[:-cut])
        assert scratch.rows("epochs") == ROWS[:-1]
    assert heard == []


def test_the_row_after_a_torn_line_begins_on_a_fresh_line(scratch: FolderScratch, heard: list[Event]) -> None:
    write_rows(scratch)
    whole = log_path(scratch).read_bytes()
    for torn in (whole[:-3], whole + b"\0" * 4096, whole + b"0123", whole[:5], b"x"):
        log_path(scratch).write_bytes(torn)
        before = scratch.rows("epochs")
        scratch.append("epochs", {"epoch": 9})
        assert scratch.rows("epochs") == [*before, {"epoch": 9}]
    assert heard == []


def test_a_damaged_line_in_the_middle_is_told_of_once_and_dropped(
    scratch: FolderScratch, heard: list[Event]
) -> None:
    write_rows(scratch)
    path = log_path(scratch)
    path.write_bytes(path.read_bytes().replace(b"1.5", b"0.5"))
    assert scratch.rows("epochs") == ROWS[1:]
    assert scratch.rows("epochs") == ROWS[1:]
    (warning,) = heard
    assert isinstance(warning, Message)
    assert f"{path} is damaged in line 1:" in warning.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_json_cannot_hold_is_refused_before_anything_is_written(
    scratch: FolderScratch, value: float
) -> None:
    with pytest.raises(ValueError, match="JSON"):
        scratch.append("epochs", {"loss": value})
    assert not scratch.folder.exists()


@given(st.binary())
def test_any_bytes_are_read_as_some_log(data: bytes) -> None:
    log = parse_log(data)
    assert log.rows == []
    assert log.whole_bytes <= len(data)


@given(st.lists(json_rows), st.integers(min_value=0))
def test_a_log_cut_anywhere_yields_its_first_rows_and_no_damage(rows: list[dict[str, Any]], cut: int) -> None:
    lines = [log_line(row) for row in rows]
    data = b"".join(lines)
    log = parse_log(data[: cut % (len(data) + 1)])
    assert log.damaged == []
    assert log.rows == rows[: len(log.rows)]
    assert log.whole_bytes == sum(map(len, lines[: len(log.rows)]))


@given(st.lists(json_rows, min_size=1), st.data())
def test_one_changed_byte_costs_at_most_two_rows_and_adds_none(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    text = bytearray(b"".join(log_line(row) for row in rows))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    found = parse_log(bytes(text)).rows
    assert len(rows) - 2 <= len(found) < len(rows)
    rest = iter(rows)
    assert all(row in rest for row in found)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_environment_fault_that_says_so(scratch: FolderScratch) -> None:
    scratch.folder.mkdir(parents=True)
    os.symlink("/dev/full", log_path(scratch))  # noqa: PTH211
    with pytest.raises(MachineError, match="no space is left on the disk"):
        scratch.append("epochs", {"epoch": 1})


def test_cleared_scratch_is_gone_and_may_be_cleared_again(scratch: FolderScratch) -> None:
    write_rows(scratch)
    scratch.clear()
    scratch.clear()
    assert list(scratch.folder.parent.iterdir()) == []


def test_work_that_was_begun_to_replace_another_record_is_cleared_away(scratch: FolderScratch) -> None:
    scratch.begin("old")
    write_rows(scratch)
    scratch.begin("old")
    assert scratch.rows("epochs") == ROWS
    scratch.begin("new")
    assert scratch.rows("epochs") == []
    write_rows(scratch)
    scratch.begin("")
    assert not scratch.folder.exists()


def test_time_spent_is_kept_beside_the_work_only(scratch: FolderScratch) -> None:
    scratch.keep_spent(3.0)
    assert scratch.spent_seconds() == 0.0
    write_rows(scratch)
    scratch.keep_spent(12.25)
    assert scratch.spent_seconds() == 12.25
    (scratch.folder / "spent").write_bytes(b"\xff garbage")
    assert scratch.spent_seconds() == 0.0
