"""The label file: what readers split at line breaks must come back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasflow.base.errors import UsageError
from stages.data.names import label_of
from stages.packaging.labels import label_file


def test_each_name_is_one_line_in_order() -> None:
    names = ["Dog", "T-shirt/top", "猫頭鷹", "Igel (Erinaceus)", "a,b"]
    assert label_file(names, 5).decode().split("\n") == [*names, ""]


@pytest.mark.parametrize(("names", "outputs"), [(["a"], 2), (["a", "b", "c"], 2), ([], 1)])
def test_another_number_of_names_than_outputs_is_refused(names: list[str], outputs: int) -> None:
    with pytest.raises(UsageError, match=f"{len(names)} class names, but the model has {outputs} outputs"):
        label_file(names, outputs)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("", "name of class 2 is empty"),
        ("  ", "name of class 2 is empty"),
        ("a", "several classes have the same name: a"),
        ("two\nlines", r"class 2, 'two\\nlines'"),
        ("return\r", "class 2"),
        ("tab\t", "class 2"),
        ("\x1b[31mred", "class 2"),
        ("nul\0", "class 2"),
        ("line\u2028separator", "class 2"),
        ("next\x85line", "class 2"),
        (" space", "class 2"),
        ("caf\udce9", "class 2"),  # a file's name that is no UTF-8
    ],
)
def test_a_name_that_would_not_be_read_back_is_refused(wrong: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        label_file(["a", wrong], 2)


@given(st.lists(st.text(min_size=1).map(label_of).filter(bool), min_size=1, unique=True))
def test_every_name_that_nasflow_gives_a_class_can_be_shipped(names: list[str]) -> None:
    assert label_file(names, len(names)).decode().split("\n")[:-1] == names
