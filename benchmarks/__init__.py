"""What is measured, not asserted: ``python -m benchmarks.NAME [--quick|--full]`` prints one JSON document."""
