"""The schema's history, inside the package so that an installed wheel can migrate."""

HEAD = "0001"
"""The revision that this version works on. Written down, so that serving does not load Alembic to know it."""
