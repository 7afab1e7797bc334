"""Rounds of timings, and the device's drift taken out of them."""
