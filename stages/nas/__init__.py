"""The architecture search and the choice of networks."""
