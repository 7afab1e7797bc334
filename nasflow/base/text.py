"""Durations, latencies, sizes and remaining time in words; foreign text made harmless."""

from __future__ import annotations

import math
import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC and other strings: titles, links
    r"|\x1b[ -/]*[0-~]",  # the short ones
    re.DOTALL,
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def human_duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``1 min 12 s``, ``2 h 05 min``, ``1 d 3 h``."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown time"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def rough_duration(seconds: float) -> str:
    """As :func:`human_duration`, of an estimate: ``25 min``, ``1 h 40 min``, ``3 h``, ``2 d 5 h``."""
    if not math.isfinite(seconds) or seconds < 60:
        return human_duration(seconds)
    minutes = seconds / 60
    step = 1 if minutes < 10 else 5 if minutes < 60 else 10 if minutes < 10 * 60 else 60
    minutes = step * round(minutes / step)
    if minutes < 60:
        return f"{minutes} min"
    return human_duration(60 * minutes).replace(" 00 min", "").replace(" 0 h", "")


def human_bytes(size_bytes: float) -> str:
    """``812 B``, ``3.4 MB``: powers of 1000."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:.1f} TB"


def clock_time(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def human_count(value: float) -> str:
    """``12``, ``0.5``, ``1.33``: a count of units without a useless fraction."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Remaining:
    """Remaining time of a row of progress reports, from the pace since the first of them.

    What was done before the first report (an interrupted run goes on) does not count as pace.
    """

    def __init__(self) -> None:
        self._total = math.nan
        self._unit = ""
        self._first = (0.0, 0.0)
        self._last_done = 0.0

    def after(self, done: float, total: float, unit: str, now: float) -> float | None:
        """Seconds left at time ``now``; None while there is no pace to go by."""
        if (total, unit) != (self._total, self._unit) or done < self._last_done:
            self._total, self._unit, self._first = total, unit, (done, now)
        self._last_done = done
        steps, seconds = done - self._first[0], now - self._first[1]
        if steps <= 0 or seconds <= 0 or not math.isfinite(total):
            return None
        return max(0.0, total - done) * seconds / steps


def share(done: float, total: float) -> float:
    """``done / total``, within 0..1; 0 where there is no total."""
    return min(1.0, max(0.0, done / total)) if total > 0 else 0.0


def shown_ms(value_ms: float, resolution_ms: float, *, unit: bool = True) -> str:
    """``0.1234 ms``; a time that the device's clock counted as 0 is ``below 1 us``, the clock's step."""
    if value_ms < resolution_ms:
        return f"below {1000 * resolution_ms:.3g} us"
    return f"{value_ms:.4g}{' ms' if unit else ''}"


def plain_text(foreign: bytes | str, *, limit: int = 4000) -> str:
    """Foreign text for people and logs: no escapes or control characters, at most ``limit`` characters.

    Lines stay lines.
    """
    text = foreign if isinstance(foreign, str) else foreign[: 4 * limit + 4].decode("utf-8", "replace")
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _CONTROLS.sub("", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def markdown_text(text: object) -> str:
    """Foreign text as Markdown that shows it as it is, on one line: no link, picture, table or HTML."""
    return _MARKDOWN.sub(r"\\\1", plain_line(str(text)))


def plain_line(foreign: bytes | str, *, limit: int = 4000) -> str:
    """Foreign text on one line (a device's name), without what could turn text around."""
    kept = " ".join(plain_text(foreign, limit=limit).split())
    return "".join(character for character in kept if character.isprintable())
