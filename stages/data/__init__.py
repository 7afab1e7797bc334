"""Data sets: images, their identity, batches."""
