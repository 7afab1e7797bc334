"""Markers and options that all tests share."""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    """Let tests interrupt processes: a shell that starts us in the background has all of us ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--phone SERIAL`` names the phone that tests marked ``phone`` may use."""
    parser.addoption("--phone", default=None, help="serial of a connected Android phone")
