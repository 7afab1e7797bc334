"""What a person reads at the end: summary, result document, report."""
