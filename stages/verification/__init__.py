"""The parts of ``verify``: what networks answer, how long they take, and whether that was predicted."""
