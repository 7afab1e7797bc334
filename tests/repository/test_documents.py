"""The documents: links lead somewhere, configurations in them are valid, nothing is forgotten."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from nasflow.base.errors import NasflowError
from nasflow.cli.request import STAGE_NAMES
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from pipeline.config.moved import new_key
from pipeline.config.problems import models_at
from stages.data.config import DataConfig, open_dataset

ROOT = Path(__file__).resolve().parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def snippets(path: Path, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def anchors(path: Path) -> set[str]:
    """What headings are called in links: lower case, spaces as hyphens, punctuation left out."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    plain = (re.sub(r"`|\*|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_internal_links_lead_somewhere(path: Path) -> None:
    assert list(_broken_links(path)) == []


def _broken_links(path: Path) -> Iterator[str]:
    for link in _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        index, _, anchor = unquote(link).partition("#")
        target = (path.parent / index).resolve() if index else path
        found = target.is_relative_to(ROOT) and target.exists()
        if not found or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("text", [text for page in PAGES for text in snippets(page, "yaml")])
def test_configurations_in_the_pages_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(text, encoding="utf-8")
    config = load_config(PipelineConfig, file)
    assert config != PipelineConfig(), "it shows a key, and not one at its default"


def test_settings_in_the_table_are_those_of_pipeline_yaml() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)\.(\w+)` \| ([\d.]+) \|", text, re.MULTILINE)
    assert told
    shown = load_config(PipelineConfig, ROOT / "pipeline.yaml")
    for section, key, value in told:
        assert float(value) == getattr(getattr(shown, section), key), (section, key)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_keys_in_running_text_exist(path: Path) -> None:
    """The changelog and the decisions may name keys as they were called then."""
    sections = "|".join((*PipelineConfig.model_fields, *STAGE_NAMES))
    for key in re.findall(rf"`((?:{sections})(?:\.[a-z_]+)+)[`= :]", path.read_text(encoding="utf-8")):
        if key.endswith(("_", ".py", ".html")) or new_key(tuple(key.split(".")), PipelineConfig.MOVED):
            continue  # a family of keys (`search.multiplier_*`), a module, report.html, an old key
        if key in PipelineConfig.MOVED:
            continue
        *above, last = key.split(".")
        assert [model for model in models_at(PipelineConfig, tuple(above)) if last in model.model_fields], key


def test_troubleshooting_names_every_exit_code_and_reference() -> None:
    def codes(kind: type[NasflowError]) -> Iterator[int]:
        yield kind.exit_code
        for inner in kind.__subclasses__():
            yield from codes(inner)

    def references(kind: type[NasflowError]) -> Iterator[str]:
        yield kind.reference
        for inner in kind.__subclasses__():
            yield from references(inner)

    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE)
    told = {int(code) for cell in cells for code in cell.split(",")}
    assert told == {0, 1, 130, 143, *codes(NasflowError)}
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert named == set(references(NasflowError))


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) < 1200


def test_the_page_about_apps_tells_the_input_of_the_network() -> None:
    text, images = (DOCS / "app.md").read_text(encoding="utf-8"), open_dataset(DataConfig())
    assert f"1x{images.resolution}x{images.resolution}x{images.channels}" in text
    assert f"FloatArray({len(images.class_names)})" in text


def test_every_benchmark_has_its_place_in_the_documents() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    names = {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert set(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == names
    assert set(re.findall(r"<!-- figures: (\w+) -->", text)) == names
    assert set(re.findall(r"python -m benchmarks\.(\w+) --full", text)) == names | {"NAME"}


def test_lab_notes_and_results_link_to_each_other() -> None:
    results, notes = ((DOCS / name).read_text(encoding="utf-8") for name in ("benchmarks.md", "lab-notes.md"))
    names = re.findall(r"^## (.*)$", notes, re.MULTILINE)
    assert names
    assert set(re.findall(r"\]\(lab-notes\.md#(\w+)\)", results)) == set(names)
    assert re.findall(r"^\[Results\]\(benchmarks\.md#(\w+)\)", notes, re.MULTILINE) == names


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    for name in pages:
        text = (folder / name).read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix(f"# {name[:4]}: ")
        assert f"[{name[:4]}]({name}) | {title} |" in listed
        assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_floor_plan_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    existing = {path.name for path in ROOT.glob("*/**/*.py")}
    assert set(re.findall(r"\b(\w+\.py)\b", text)) <= existing
