"""What every package may import: errors, files, text."""
