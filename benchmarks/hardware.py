"""Networks and latency models of one piece of hardware, on another.

``adapt``: what ten networks measured on a new phone make of an old phone's latency model, on simulated phones
whose truth is known.
"""

from __future__ import annotations

import sys

from benchmarks._adapt import adapt_bars, adapt_figures
from benchmarks._report import Outcome, main


def run(full: bool) -> Outcome:
    """All parts."""
    adapted = adapt_figures(full)
    return Outcome({"adapt": adapted}, adapt_bars(adapted))


if __name__ == "__main__":
    sys.exit(main("hardware", run))
