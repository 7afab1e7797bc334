"""What each sub-command does, once the command line is read."""
