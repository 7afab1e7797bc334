"""What a phone answered, recorded so that it can be sent, read and replayed elsewhere."""
