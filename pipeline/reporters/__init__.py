"""What a run's events look like to a person and to a program."""
