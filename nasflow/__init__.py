"""The front door: command line, wiring, errors."""
