"""The schema of PostgreSQL that holds everything of ours; see docs/adr/0010-a-schema-of-our-own.md."""

SCHEMA = "taskwell"
"""SQLite has no schemas; there the tables have their plain names."""
