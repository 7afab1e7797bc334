"""How long a model warms up before its invocations count: some of them, not a time alone.

Only after some invocations do caches hold of a model what they can. Networks of 2 to 20 ms at 224 pixels,
on an Intel Xeon, each after another model had run: the first invocation took 4 to 45 % longer than later
ones, the fifth up to 3 %, the tenth less than 1 %; most those of 2 to 5 ms, least those of 20 ms. Where five
invocations counted after a single one, networks of 5 ms so seemed 5 % slower beside those of 20 ms than they
are.

Workers import this module: the standard library alone.
"""

from __future__ import annotations

WARM_RUNS = 10
"""Invocations before the first one that counts, at least."""

LONG_ENOUGH_MS = 100.0
"""Of a warm-up on this computer: networks of 15 ms and more, which no cache holds, are within 1 % by then."""
