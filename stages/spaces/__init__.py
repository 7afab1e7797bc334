"""Search spaces as package data (YAML)."""
