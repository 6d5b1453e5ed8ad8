"""The schema's history, inside the package so that an installed wheel can migrate."""

HEAD = "0001"
"""The revision that this version works on. Written down, so that serving does not load Alembic to know it."""

NEWER_SCHEMA = "The database has a schema that this version does not know. Run the newer version that migrated it."
"""What to say of a revision that is not in this history."""
