"""Inputs of a gate: files of anybody, and random ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasflow.base.errors import UsageError
from nasflow.gate.inputs import MOST, RANDOM, given_examples, random_examples
from stages.conversion.inspector import InspectedModel, TensorFacts


def model(*inputs: tuple[list[int], str]) -> InspectedModel:
    facts = [TensorFacts(name=f"in{i}", shape=shape, type=kind) for i, (shape, kind) in enumerate(inputs)]
    return InspectedModel(operator_counts={"ADD": 1}, inputs=facts, outputs=[], not_finite=[])


IMAGE = model(([1, 2, 2, 3], "float32"))
PAIR = model(([1, 4], "int8"), ([1], "int64"))


def test_files_are_examples_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, value in (("b", 2), ("a", 1)):
        np.save(tmp_path / f"{name}.npy", np.full((2, 2, 3), value, np.float32))
    (tmp_path / "notes.txt").write_text("no input")
    first, second = given_examples(tmp_path, IMAGE)
    assert first[0].shape == (1, 2, 2, 3)
    assert (first[0].max(), second[0].min()) == (1, 2)


def test_several_inputs_are_a_subfolder_with_a_file_for_each(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "0.npy", np.array([[1, 2, 3, 4]], np.int8))
    np.save(tmp_path / "one" / "1.npy", np.array([9], ">i8"))
    ((first, second),) = given_examples(tmp_path, PAIR)
    assert first.tolist() == [[1, 2, 3, 4]]
    assert (second.tolist(), second.dtype.name) == ([9], "int64")
    assert second.dtype.isnative


def test_columns_first_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    assert np.array_equal(given_examples(tmp_path, IMAGE)[0][0][0], values)


def test_random_inputs_are_the_same_every_time_and_of_the_inputs_types() -> None:
    first, again = random_examples(PAIR, 0), random_examples(PAIR, 0)
    assert first is not None and again is not None
    assert len(first) == RANDOM
    for one, other in zip(first, again, strict=True):
        assert [values.dtype.name for values in one] == ["int8", "int64"]
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(first[0][0], first[1][0])
    assert random_examples(model(([1], "string")), 0) is None


class Harm:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> Any:
        return (Path("harmed").write_text, ("yes",))


def written(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def headed(text: str, values: bytes = b"") -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values


BAD: dict[str, tuple[bytes, str]] = {
    "another shape": (written(np.zeros((3, 2, 2), np.float32)), "holds float32 3x2x2; the model's input"),
    "another type": (written(np.zeros((2, 2, 3))), "holds float64 2x2x3"),
    "an object": (written(np.array([Harm()], object), allow_pickle=True), "it holds objects"),
    "no array": (b"PK\x03\x04", "is no .npy file"),
    "empty": (b"", "is no .npy file"),
    "cut off": (written(np.zeros((2, 2, 3), np.float32))[:-4], "ends after 44 of 48 bytes"),
    "a header that lies": (
        headed("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 99999)}"),
        "holds float32 9999999999x99999",
    ),
    "fields": (
        written(np.zeros((2, 2, 3), [("x", np.float32)])),
        "it holds objects",
    ),
    "code for a header": (headed("__import__('os').system('touch harmed')"), "is no .npy file"),
    "another version": (b"\x93NUMPY\x03\x00" + bytes(200), "is not read"),
    "not finite": (written(np.full((2, 2, 3), np.nan, np.float32)), "NaN or infinite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_does_not_fit_is_refused_and_nothing_in_it_is_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    content, said = BAD[kind]
    (tmp_path / "in" / "a.npy").write_bytes(content)
    with pytest.raises(UsageError) as error:
        given_examples(tmp_path / "in", IMAGE)
    assert said in error.value.message
    assert not (tmp_path / "harmed").exists()


@given(st.binary(max_size=300), st.booleans())
def test_whatever_a_file_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, with_magic: bool
) -> None:
    folder = tmp_path_factory.mktemp("in")
    (folder / "a.npy").write_bytes((b"\x93NUMPY\x01\x00" if with_magic else b"") + content)
    with pytest.raises(UsageError):
        given_examples(folder, IMAGE)


def test_folders_without_inputs_or_with_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds 0 \.npy files, and 1 to 100"):
        given_examples(tmp_path, IMAGE)
    with pytest.raises(UsageError, match="holds 0 subfolders"):
        given_examples(tmp_path, PAIR)
    with pytest.raises(UsageError, match="is no folder"):
        given_examples(tmp_path / "nothere", IMAGE)
    (tmp_path / "one").mkdir()
    with pytest.raises(UsageError, match=r"0\.npy does not exist"):
        given_examples(tmp_path, PAIR)
    for number in range(MOST + 1):
        (tmp_path / f"{number}.npy").touch()
    with pytest.raises(UsageError, match="holds 101"):
        given_examples(tmp_path, IMAGE)
