"""Markers and options that all tests share."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--phone SERIAL`` names the phone that tests marked ``phone`` may use."""
    parser.addoption("--phone", default=None, help="serial of a connected Android phone")
