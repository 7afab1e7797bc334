"""What is done on a phone: jobs, files, settings, its lock and its state."""
