"""The engine: stages, fingerprints, the store, events. It knows nothing of networks or phones."""
