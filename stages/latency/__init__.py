"""From timings to a prediction."""
