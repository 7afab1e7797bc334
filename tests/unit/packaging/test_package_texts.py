"""Words of a package's texts that the whole command does not reach with a run of no work."""

from __future__ import annotations

import pytest

from nasflow.base.text import markdown_text
from stages.packaging.texts import hub_sentence


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "hub", "name": "beans", "revision": None}, "beans, of the Hugging Face hub."),
        (
            {"source": "hub", "name": "ada/cats", "revision": "v2"},
            "ada/cats, revision v2, of the Hugging Face hub.",
        ),
        ({"source": "hub", "name": "/home/ada/parquet", "revision": None}, ""),
        ({"source": "hub", "name": "../parquet", "revision": None}, ""),
        ({"source": "folder", "name": None}, ""),
        ({}, ""),
    ],
)
def test_a_data_set_of_the_hub_is_named_and_a_folder_is_not(settings: dict[str, str], said: str) -> None:
    assert hub_sentence(settings)[1] == said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("![x](http://e.org/y.png)", r"\!\[x\](http://e.org/y.png)"),
        ("<img src=x>", r"\<img src=x\>"),
        ("two\nlines", "two lines"),
        ("`code` *b* _i_ ~s~", r"\`code\` \*b\* \_i\_ \~s\~"),
        ("&lt;", r"\&lt;"),
        ("\x1b[31mred\u202e", "red"),
    ],
)
def test_foreign_text_stays_text_in_markdown(text: str, shown: str) -> None:
    assert markdown_text(text) == shown
