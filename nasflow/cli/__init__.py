"""The command line: its options, its output, from a command to an exit code."""
