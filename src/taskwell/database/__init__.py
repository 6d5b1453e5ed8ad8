"""The database, behind an interface of a few methods."""
