"""Networks and latency models of one piece of hardware, on another.

``adapt``: what ten networks measured on a new phone make of an old phone's latency model, on simulated phones
whose truth is known. ``cross``: what other targets' networks lose on a target, in a space whose networks are
all known, on this computer with one and two threads, with int8, with ONNX Runtime, and on its GPU, if any.
"""

from __future__ import annotations

import shutil
import sys

from benchmarks._adapt import adapt_bars, adapt_figures
from benchmarks._hardware_cross import cross_bars, cross_figures, work_folder
from benchmarks._report import Outcome, main


def run(full: bool) -> Outcome:
    """All parts. One that was stopped goes on where it was: with the same arguments and the same program."""
    cross, adapted = cross_figures(full), adapt_figures(full)
    bars = [*adapt_bars(adapted), *(cross_bars(cross) if full else [])]
    shutil.rmtree(work_folder(full))  # the next one measures anew
    return Outcome({"adapt": adapted, "cross": cross}, bars)


if __name__ == "__main__":
    sys.exit(main("hardware", run))
