"""The report as Chromium shows it: on a laptop and on a phone, light, dark and printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import MEDIA, WIDTHS, Medium, chromium, opened, sight
from support.report_pages import PAGES

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("reports")
    written = {}
    for name, made in PAGES.items():
        (folder / f"{name}.html").write_text(made(), encoding="utf-8")
        written[name] = (folder / f"{name}.html").as_uri()
    return written


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_report_asks_for_nothing_and_can_be_read(
    browser: Browser, addresses: dict[str, str], name: str, width: int, medium: Medium
) -> None:
    address = addresses[name]
    with opened(browser, address, width, medium) as (page, heard):
        seen = sight(page, rules=name != "ten_classes")  # like few_photos, and axe-core takes seconds
    assert heard.requests == [address]
    assert heard.complaints == []
    assert seen.beyond == []
    assert seen.faint_texts == []
    assert seen.rules_broken == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_of_a_report_is_cut_off_on_paper(
    browser: Browser, addresses: dict[str, str], name: str
) -> None:
    a4_less_margins = round((210 - 2 * 10) / 25.4 * 96)
    with opened(browser, addresses[name], a4_less_margins, "print") as (page, _):
        assert sight(page, rules=False).beyond == []
        assert page.evaluate("document.querySelectorAll('.scroll').length") > 0


def test_what_would_be_wrong_with_a_page_is_noticed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(
        """<!DOCTYPE html><html lang="en"><head><title>t</title></head><body><main><h1>t</h1>
        <p style="color: #bbb">faint</p><div style="width: 3000px">wide</div>
        <svg role="img" aria-label="a" width="90" height="40"><rect width="90" height="40" fill="#345"/>
        <text x="9" y="20" fill="#123">dark</text></svg>
        <img src="missing.png" alt=""><script>console.error("broken"); nothing.here</script>
        </main></body></html>""",
        encoding="utf-8",
    )
    with opened(browser, page.as_uri(), 390, "light") as (shown, heard):
        seen = sight(shown)
    assert [address.rpartition("/")[2] for address in heard.requests] == ["wrong.html", "missing.png"]
    assert any("broken" in line for line in heard.complaints)
    assert any("nothing is not defined" in line for line in heard.complaints)
    assert any("wide" in element for element in seen.beyond)
    assert any(text.startswith("dark") for text in seen.faint_texts)
    assert any(rule.startswith("color-contrast") for rule in seen.rules_broken)
