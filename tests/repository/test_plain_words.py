"""What users read is written in the field's terms: a list of words that must not come back.

The right words stand in the glossary of CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("nasflow", "pipeline", "stages", "android_bench")
TEXTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "pipeline.yaml", "docs/verified.md")
NOT_SAID = re.compile(
    r"\b(mend(s|ed|ing)?|spells?|foreseen|foresaw|by lot|made up its mind|that is none|restless|quieten"
    r"|certainty|last words|blame|promised|shaken|effort|judged?|bred|children"
    r"|to and fro|for want of|at fault|(is|stays?|stayed) away|(breaks?|broke|broken) off|measured so"
    r"|given up|is gone|go(es)? on with|taken again|contradicts? itself|is no more|says why|tells an?"
    r"|comes? to lie|is there already|(is|are) not there|(needs?|is|asks?) none|means nothing"
    r"|last heard of|a certain one|makes? it anew|so long|wanted by|found itself|its own words"
    r"|virtual phone)\b",
    re.IGNORECASE,
)
_TEMPLATE_CODE = re.compile(r"{[{%].*?[%}]}")


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module that is no docstring, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in bare:
            continue
        if " " in node.value:  # a sentence or a part of one; names of fields are no text
            yield node.lineno, node.value


@pytest.mark.parametrize("top", CODE)
def test_messages_use_plain_words(top: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match.group(0)!r} in {text!r}"
        for path in sorted((ROOT / top).rglob("*.py"))
        for line, text in strings(path)
        for match in NOT_SAID.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("name", [*TEXTS, "stages/reporting/templates/report.html.j2"])
def test_documents_use_plain_words(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [
        f"{name}:{number}: {match.group(0)!r}"
        for number, line in enumerate(lines, start=1)
        for match in NOT_SAID.finditer(_TEMPLATE_CODE.sub("", line))
    ]
    assert found == []


def test_the_list_finds_what_it_is_for(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""Mend it."""\nx = "Mend the file."\ny = f"a {x} spell"\n', encoding="utf-8")
    assert [NOT_SAID.search(text) is not None for _, text in strings(module)] == [True, False, True]
