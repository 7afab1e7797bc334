"""Devices on which a model's latency is measured; usable on its own."""
