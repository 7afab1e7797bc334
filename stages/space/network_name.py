"""Names for the networks of a space: of one length, however many layers there are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_DIGITS = 16  # of a million networks two have an equal name in 1 of 30 million cases


def network_name(choices: Sequence[int]) -> str:
    """``network_3f0c9a17d2b45e68``: a digest of the network's choices, one for each layer.

    A name that spelt the choices would grow with them, and files, logs and columns have room for so much.
    """
    spelt = ",".join(str(int(choice)) for choice in choices)
    return f"network_{hashlib.sha256(spelt.encode()).hexdigest()[:_DIGITS]}"
