"""Networks in PyTorch: blocks, the over-parameterised supernet, the network that is left of it."""
