"""Rules that learn from whole paths which candidates are probable: numbers alone, no networks."""
