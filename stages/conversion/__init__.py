"""From PyTorch to TFLite, and the proof that both compute the same."""
