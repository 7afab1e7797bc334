"""Pages in Debian's Chromium, without a window: what it complains of, asks for, and cannot show well."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

Medium = Literal["light", "dark", "print"]
WIDTHS = (1280, 390)
"""CSS pixels: a laptop's window and a phone's screen."""
MEDIA: tuple[Medium, ...] = ("light", "dark", "print")

# axe-core reads the colour of text from `color` and not from `fill`: text in drawings is measured here, by
# the formula of WCAG 2.2, 1.4.3. What lies below is laid together from the shapes at the middle of the text;
# an outline that is painted before the letters (paint-order) is below them, too.
_FAINT_TEXTS = """() => {
  const rgba = (value) => { const n = value.match(/[\\d.]+/g); return n ? n.map(Number) : null; };
  const over = (top, opacity, below) => below.map((b, i) => opacity * top[i] + (1 - opacity) * b);
  const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = (c) => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const lay = (paint, opacity, below) => {
    if (!paint || paint === 'none') return below;
    const colour = rgba(paint);
    if (!colour) return below;
    return over(colour, opacity * (colour.length > 3 ? colour[3] : 1), below);
  };
  const faint = [];
  for (const text of document.querySelectorAll('svg text')) {
    const box = text.getBoundingClientRect();
    if (!box.width || !text.textContent.trim()) continue;
    const at = document.elementsFromPoint(
      box.x + window.scrollX + box.width / 2, box.y + window.scrollY + box.height / 2);
    let ground = [255, 255, 255];
    for (const element of at.reverse()) {
      if (element === text) break;
      const style = getComputedStyle(element);
      const drawn = element instanceof SVGGeometryElement;
      if (element instanceof SVGTextContentElement) continue;
      ground = lay(drawn ? style.fill : style.backgroundColor,
                   (drawn ? Number(style.fillOpacity) : 1) * Number(style.opacity), ground);
    }
    const style = getComputedStyle(text);
    if (style.paintOrder.startsWith('stroke')) ground = lay(style.stroke, 1, ground);
    const ink = lay(style.fill, Number(style.opacity), ground);
    const [high, low] = [luminance(ink), luminance(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) faint.push(`${text.textContent} (${text.getAttribute('class')}): ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
# What reaches beyond the page's edges though nothing around it scrolls or cuts it off.
_BEYOND = """() => {
  const edge = document.documentElement.clientWidth + 0.5;
  const held = (element) => {
    for (let e = element.parentElement; e && e !== document.body; e = e.parentElement)
      if (getComputedStyle(e).overflowX !== 'visible') return true;
    return false;
  };
  const outside = (b) => b.width && (b.right > edge || b.left < -0.5);
  return [...document.body.querySelectorAll('*')]
    .filter((e) => outside(e.getBoundingClientRect()) && !held(e))
    .map((e) => `${e.tagName} ${e.getAttribute('class')}: ${e.textContent.trim().slice(0, 40)}`);
}"""


@dataclass(frozen=True)
class Heard:
    """What a page asked for and complained of since it was opened."""

    requests: list[str] = field(default_factory=list)
    """Every address that was asked for, the page's own included."""
    complaints: list[str] = field(default_factory=list)
    """Lines of the console, and errors in the page's own scripts."""


@dataclass(frozen=True)
class Sight:
    """What cannot be seen well on a page; empty where nothing is wrong."""

    beyond: list[str]
    """Elements that reach beyond the page's width."""
    faint_texts: list[str]
    """Text in drawings whose contrast is below 4.5."""
    rules_broken: list[str]
    """axe-core's rules, each with the elements that break it."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; nothing is downloaded. Raises AssertionError where it is not installed."""
    program = shutil.which("chromium")
    assert program is not None, "no chromium"
    with sync_playwright() as playwright:
        # Its sandbox refuses to run as root, as in a container; the pages are the tests' own.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, address: str, width: int, medium: Medium) -> Iterator[tuple[Page, Heard]]:
    """The page at ``address`` in a window of ``width`` CSS pixels."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    try:
        page, heard = context.new_page(), Heard()
        page.emulate_media(
            media="print" if medium == "print" else "screen",
            color_scheme="dark" if medium == "dark" else "light",
        )
        page.on("request", lambda request: heard.requests.append(request.url))
        page.on("console", lambda message: heard.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.complaints.append(str(error)))
        page.goto(address)
        yield page, heard
    finally:
        context.close()


def sight(page: Page, *, rules: bool = True) -> Sight:
    """What is wrong with a page as it stands; without ``rules`` axe-core is not asked."""
    size = page.viewport_size
    assert size is not None
    # All of it in the window: shapes are found at points of the window alone.
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(size["height"], height)})
    broken = Axe().run(page).response["violations"] if rules else []
    return Sight(
        beyond=page.evaluate(_BEYOND),
        faint_texts=page.evaluate(_FAINT_TEXTS),
        rules_broken=[_words(rule) for rule in broken],
    )


def _words(rule: Mapping[str, Any]) -> str:
    return f"{rule['id']}: {rule['help']}: " + "; ".join(node["html"][:120] for node in rule["nodes"][:3])
