"""What differs from one run to the next in nasflow's own commands, so that they can be compared.

Random are: the tokens of a temporary file's name and of a start (8 or 16 hexadecimal digits), and the
line by which a run says who it is. A job's folder (32 digits) and its keys depend on the path of the program,
and so on which build of it is used. Hashes of content (64 digits) are not random: they say what is asked for.
"""

from __future__ import annotations

import re

OWNER = re.compile(r"run [0-9a-f]{16} [0-9]{1,10} [0-9]{1,20} [A-Za-z0-9._-]{1,40}")
_KEY = r"^[0-9]{1,4} [0-9a-f]{64}$"
_TOKEN = r"(?<![0-9A-Za-z])(?:[0-9a-f]{32}|[0-9a-f]{16}|[0-9a-f]{8})(?![0-9A-Za-z])"
DYNAMIC = re.compile(f"{OWNER.pattern}|{_KEY}|{_TOKEN}", re.MULTILINE)


def normal_form(text: str) -> str:
    """The text with ``#`` for all that is random in it."""
    return DYNAMIC.sub("#", text)
