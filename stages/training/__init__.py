"""Data sets and training loops."""
