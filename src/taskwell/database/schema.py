"""The names of our schemas on PostgreSQL; see docs/adr/0010-a-schema-of-our-own.md. SQLite has no schemas."""

SCHEMA = "taskwell"
"""Holds the tables, and the version of the schema."""

FUNCTIONS_SCHEMA = "taskwell_0003"
"""Holds the functions of this version: docs/adr/0011-writes-are-functions-in-the-database.md.

It is named after the revision that created it; later revisions that only add functions add them here. Processes of an
earlier version go on using their own functions.
"""
