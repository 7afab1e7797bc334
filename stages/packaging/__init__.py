"""A finished run's network as a package for apps: files with metadata, an AAR, a Maven repository, a card."""
