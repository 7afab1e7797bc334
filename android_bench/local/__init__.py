"""This computer as a device: LiteRT in a process of its own."""
