"""Configuration files: read, checked, with lines in every message."""
