"""Google's benchmark_model: where it comes from, how it is called, and what its output is worth."""
