"""A latency in words, for tables and checks. Standard library alone."""

from __future__ import annotations


def shown_ms(value_ms: float, resolution_ms: float, *, unit: bool = True) -> str:
    """``0.1234 ms``; a time that the device's clock counted as 0 is ``below 1 us``, the clock's step."""
    if value_ms < resolution_ms:
        return f"below {1000 * resolution_ms:.3g} us"
    return f"{value_ms:.4g}{' ms' if unit else ''}"
