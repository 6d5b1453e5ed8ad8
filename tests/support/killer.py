"""Kills a service, its database server and the pooler between them, and starts them again."""

import time
from collections import Counter
from collections.abc import Callable
from random import Random

from support.daemon import Daemon
from support.restarted import RestartedService


class Killer:
    """Kills at random moments, in a random order, and starts again what it has killed."""

    def __init__(self, service: RestartedService, server: Daemon | None, pooler: Daemon | None, random: Random) -> None:
        self._service = service
        self._server = server
        self._pooler = pooler
        self._random = random
        self.kills: Counter[str] = Counter()

    def kill_for(self, seconds: float, check: Callable[[], None]) -> None:
        """Kills for so long, and each kind at least once. Calls `check` after each kill."""
        ends = time.monotonic() + seconds
        kinds = [self._worker, self._main_process, self._all_processes]
        kinds += [self._database, self._database_process, self._everything] if self._server else []
        kinds += [self._connections] * 2 if self._pooler else []
        waiting: list[Callable[[], None]] = []
        while time.monotonic() < ends or len(self.kills) < len(set(kinds)):
            waiting = waiting or self._random.sample(kinds, len(kinds))
            time.sleep(self._random.uniform(0.3, 3))
            kill = waiting.pop()
            kill()
            self.kills[kill.__name__.strip("_")] += 1
            check()

    def _worker(self) -> None:
        self._service.kill_a_worker(self._random)

    def _main_process(self) -> None:
        self._service.kill_main_process()
        self._service.start()

    def _all_processes(self) -> None:
        self._service.kill_all_processes()
        self._service.start()

    def _database(self) -> None:
        if self._server:
            self._server.kill()
            time.sleep(self._random.uniform(0, 4))
            self._server.recover()

    def _database_process(self) -> None:
        if self._server:
            self._server.kill_a_child(self._random)

    def _connections(self) -> None:
        """Kills the pooler. The server goes on with what it has received, so the service loses only replies."""
        if self._pooler:
            self._pooler.kill()
            self._pooler.recover()

    def _everything(self) -> None:
        self._service.kill_all_processes()
        if self._server:
            self._server.kill()
            self._server.recover()
        self._service.start()
