"""The database behind a port of a few methods."""
