"""How the virtual phone's ``benchmark_model`` ends early."""

from __future__ import annotations


class ToolFailed(Exception):
    """The tool ends with exit code 1; the arguments are lines for standard error."""


class ToolAborted(Exception):
    """The tool aborts; the message goes to standard error."""
