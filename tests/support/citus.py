"""Databases that Citus distributes over several servers, and clusters of such servers."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import asyncpg

from support.postgres import PostgresServer
from support.proc import children_of

SETTINGS = MappingProxyType(
    {
        "shared_preload_libraries": "citus",
        # A migration commits on all servers, in two phases.
        "max_prepared_transactions": "200",
        # The servers have no certificates for each other.
        "citus.node_conninfo": "sslmode=prefer",
        "citus.enable_statistics_collection": "off",
        # Citus has a process for each database.
        "max_worker_processes": "100",
    }
)


def new_database(coordinator: str, name: str) -> str:
    """Makes an empty database on all nodes, and returns its URL on the coordinator.

    `coordinator` is the URL of its maintenance database, where the workers are registered.
    """
    return asyncio.run(_new_database(coordinator, name))


async def _new_database(coordinator: str, name: str) -> str:
    workers = await workers_of(coordinator)
    for server in (coordinator, *workers):
        await _execute(server, f'CREATE DATABASE "{name}"')
        await _execute(_in_database(server, name), "CREATE EXTENSION citus")
    url = _in_database(coordinator, name)
    await register(url, workers)
    return url


async def workers_of(coordinator: str) -> list[str]:
    """Returns the URLs of the workers that are registered in a database of the coordinator."""
    connection = await asyncpg.connect(coordinator)
    try:
        nodes = await connection.fetch("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY groupid")
    finally:
        await connection.close()
    return [_at(coordinator, node["nodename"], node["nodeport"]) for node in nodes]


async def register(url: str, workers: list[str]) -> None:
    """Makes `workers` known in the database at `url`."""
    await _execute(url, _call("citus_set_coordinator_host", url))
    for worker in workers:
        await _execute(url, _call("citus_add_node", worker))


def _call(function: str, server: str) -> str:
    parts = urlsplit(server)
    return f"SELECT {function}('{parts.hostname}', {parts.port})"


def _at(url: str, host: str, port: int) -> str:
    login = urlsplit(url).netloc.rpartition("@")[0]
    return urlsplit(url)._replace(netloc=f"{login}@{host}:{port}").geturl()


def _in_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Cluster:
    """A coordinator and its workers, on this machine."""

    coordinator: PostgresServer
    workers: list[PostgresServer]

    @property
    def url(self) -> str:
        """The URL of the coordinator's maintenance database."""
        return self.coordinator.url


@contextmanager
def cluster(binaries: Path, workers: int = 2, **changes: str) -> Iterator[Cluster]:
    """Starts a cluster from PostgreSQL's programs in `binaries`, where Citus is installed."""
    with ExitStack() as stack:
        servers = [PostgresServer(binaries, changes={**SETTINGS, **changes}) for _ in range(workers + 1)]
        for server in servers:
            stack.callback(server.stop)
        for server in servers:
            server.wait_until_ready()
            asyncio.run(_execute(server.url, "CREATE EXTENSION citus"))
        coordinator, *others = servers
        asyncio.run(register(coordinator.url, [server.url for server in others]))
        yield Cluster(coordinator, others)


@contextmanager
def killed(server: PostgresServer) -> Iterator[None]:
    """Kills a server, and starts it again at the end of the block."""
    server.kill()
    try:
        yield
    finally:
        server.recover()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Stops all processes of a server until the end of the block. Connections to it stay open, and silent."""
    pid = server._process.pid
    # The main process first, so that it starts no others.
    os.kill(pid, signal.SIGSTOP)
    processes = [int(child.name) for child in children_of(pid)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in (*processes, pid):
            os.kill(process, signal.SIGCONT)


def worker_of(url: str, user: str) -> int:
    """Returns the number of the worker that has the rows of a user, from 0."""
    return asyncio.run(_worker_of(url, user))


async def _worker_of(url: str, user: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        number: int = await connection.fetchval(_WORKER, user)
    finally:
        await connection.close()
    return number


_WORKER = """
SELECT count(*) FROM pg_dist_node WHERE groupid > 0 AND groupid < (
    SELECT groupid FROM pg_dist_placement
    WHERE shardid = get_shard_id_for_distribution_column('taskwell.task', $1::text)
)
"""
