"""The science: one module per step of the pipeline."""
