"""Explains why SQLite cannot use a file. SQLite itself says the same for a missing folder, a folder and a missing right."""

import os
import sqlite3
from pathlib import Path

from taskwell.errors import DatabaseRefused

_CORRECT_THE_PATH = "correct the path in DATABASE_URL"


def fault_of(path: Path) -> tuple[str, str] | None:
    """Returns what the file system says against a database at `path`, and the remedy; None if it says nothing."""
    file = path.absolute()
    folder = file.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist", f"create the folder, or {_CORRECT_THE_PATH}"
    if file.is_dir():
        return f"{file} is a folder", "add the name of a file to DATABASE_URL"
    # SQLite keeps two more files next to the database.
    if read_only := [str(one) for one in (file, folder) if one.exists() and not os.access(one, os.W_OK)]:
        return (
            f"{' and '.join(read_only)} cannot be written",
            "let the user that runs Taskwell write to file and folder",
        )
    return None


def fault_behind(error: sqlite3.DatabaseError, path: Path) -> tuple[str, str]:
    """Returns why SQLite failed to open `path`, and the remedy."""
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
        return f"{path.absolute()} is not an SQLite database", _CORRECT_THE_PATH
    return (
        f"{path.absolute()}: {error}",
        "check the path and the file system; if the file is damaged, restore a back-up",
    )


def unusable(fault: tuple[str, str]) -> DatabaseRefused:
    """Returns the error for a file with this fault."""
    return DatabaseRefused("The database file cannot be used.", cause="; ".join(fault))
