"""Where events are shown while a command is at work."""

from __future__ import annotations

import sys

from nasflow.cli.request import STAGE_NAMES
from pipeline.reporters.reporters import JsonLinesReporter, PlainReporter, Reporter
from pipeline.reporters.rich_reporter import RichReporter


def screen(*, as_json: bool) -> Reporter:
    """Progress goes to standard error, so that standard output holds the outcome alone."""
    if sys.stderr.isatty():
        return RichReporter(sys.stderr, names=STAGE_NAMES)
    return JsonLinesReporter(sys.stderr) if as_json else PlainReporter(sys.stderr, names=STAGE_NAMES)
