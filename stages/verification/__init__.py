"""The parts of ``verify``: what the networks answer, and how long they take side by side."""
