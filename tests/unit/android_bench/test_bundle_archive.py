"""A bundle that is read may come from anybody."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.bundle import archive
from android_bench.bundle.archive import CONTENTS, EXCHANGES, Bundle, read_bundle, write_bundle
from android_bench.bundle.exchange import Exchange, Header
from nasflow.base.errors import IntegrityError, MachineError, NasflowError

HEADER = Header(nasflow="1")
HEAD = HEADER.model_dump_json()
LINE = '{"part":"p","kind":"run","at_s":0.0,"took_s":0.1,"words":["getprop"],"exit_code":0}'


def zipped(path: Path, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, method)
    return path


def with_lines(path: Path, *lines: str) -> Path:
    return zipped(path, [(CONTENTS, b"c"), (EXCHANGES, "\n".join(lines).encode())])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    exchange = Exchange(
        part="p",
        kind="run",
        at_s=0.5,
        took_s=0.25,
        words=("a", "ü\n"),
        stdout=bytes(range(256)),
        stderr="ü\r\n\0".encode(),
        exit_code=255,
    )
    bundle = Bundle(HEADER, (exchange, exchange), "list\n")
    size = write_bundle(tmp_path / "phone.zip", bundle)
    assert (tmp_path / "phone.zip").stat().st_size == size
    assert read_bundle(tmp_path / "phone.zip") == bundle
    with zipfile.ZipFile(tmp_path / "phone.zip") as file:
        assert file.namelist() == [CONTENTS, EXCHANGES]
        assert {member.date_time[0] for member in file.infolist()} == {1980}, "not by whose clock"
        head, line, _ = file.read(EXCHANGES).decode().split("\n", 2)
    assert json.loads(head)["schema_version"] == 1
    told = json.loads(line)
    assert told["stderr"] == "ü\r\n\0"
    assert base64.b64decode(told["stdout"]["base64"]) == bytes(range(256))


@pytest.mark.parametrize(
    "members",
    [
        [],
        [(CONTENTS, b"c")],
        [(EXCHANGES, HEAD.encode())],
        [(CONTENTS, b"c"), (EXCHANGES, HEAD.encode()), ("more", b"")],
        [(CONTENTS, b"c"), ("../exchange.jsonl", HEAD.encode())],
        [(CONTENTS, b"c"), ("/exchange.jsonl", HEAD.encode())],
    ],
    ids=["empty", "no exchanges", "no contents", "one more", "a path upwards", "a path from the root"],
)
def test_other_files_in_it_are_refused(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    with pytest.raises(IntegrityError, match=r"exchange.jsonl only"):
        read_bundle(zipped(tmp_path / "b.zip", members))
    assert [file.name for file in tmp_path.iterdir()] == ["b.zip"], "nothing is unpacked"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = [(CONTENTS, b"c"), (EXCHANGES, HEAD.encode()), (EXCHANGES, HEAD.encode())]
    with pytest.raises(IntegrityError):
        read_bundle(zipped(tmp_path / "b.zip", twice))


def test_what_unpacks_to_too_much_is_refused_whatever_it_says_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "b.zip", [(CONTENTS, b"c"), (EXCHANGES, bytes(30_000_000))])
    assert path.stat().st_size < 100_000
    monkeypatch.setitem(archive._LIMITS, EXCHANGES, 1_000_000)
    with pytest.raises(IntegrityError, match="larger than 1 MB"):
        read_bundle(path)
    content = bytearray(path.read_bytes())
    for at in (content.rfind(b"PK\1\2") + 24, content.find(b"PK\3\4", 10) + 22):  # its size, told small
        content[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        read_bundle(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 100)
    (tmp_path / "b.zip").write_bytes(bytes(101))
    with pytest.raises(IntegrityError, match="larger than"):
        read_bundle(tmp_path / "b.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unknown_packing_is_refused(tmp_path: Path, method: int) -> None:
    members = [(CONTENTS, b"c"), (EXCHANGES, HEAD.encode())]
    with pytest.raises(IntegrityError, match="unknown method"):
        read_bundle(zipped(tmp_path / "b.zip", members, method))


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["[]"],
        ['{"schema_version": 2, "nasflow": "1"}'],
        [HEAD, "not json"],
        [HEAD, LINE.replace('"run"', '"shell"')],
        [HEAD, LINE.replace("0.1", "NaN")],
        [HEAD, LINE.replace('"part"', '"other"')],
        [HEAD, LINE.replace('["getprop"]', str([["x"]]).replace("'", '"'))],
        [HEAD, LINE[:-1] + ',"stdout":{"base64":"!!"}}'],
        [HEAD, LINE[:-1] + ',"stdout":{"base64":"","x":1}}'],
        [HEAD, LINE[:-1] + ',"stdout":3}'],
        [HEAD, "[" * 100_000],
        [HEAD, LINE, ""],
    ],
)
def test_lines_that_are_none_are_refused_by_name(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(IntegrityError, match="not a valid bundle") as caught:
        read_bundle(with_lines(tmp_path / "b.zip", *lines, ""))
    assert len(caught.value.message) < 1000
    assert caught.value.exit_code == 7


def test_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_EXCHANGES", 2)
    with pytest.raises(IntegrityError, match="more than 2"):
        read_bundle(with_lines(tmp_path / "b.zip", HEAD, LINE, LINE, LINE))


def test_a_bundle_that_is_not_there_is_an_environment_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"none\.zip does not exist\. Give the path of a bundle"):
        read_bundle(tmp_path / "none.zip")
    with pytest.raises(MachineError, match=r"is a folder\. Give the path of a bundle"):
        read_bundle(tmp_path)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_bundle_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(CONTENTS, "c")
        file.writestr(EXCHANGES, f"{HEAD}\n{LINE}\n")
    content = bytearray(packed.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(content)
    try:
        assert isinstance(read_bundle(path), Bundle)
    except NasflowError as error:
        assert isinstance(error, IntegrityError)
