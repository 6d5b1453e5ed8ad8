"""A service that is killed again and again, and started again each time, as systemd does."""

import signal
import subprocess
import time
from pathlib import Path
from random import Random

from support.ports import free_port
from support.proc import kill, workers_of
from support.process import COMMAND, environment, production

WORKERS = 2
START_SECONDS = 180


class RestartedService:
    """`taskwell serve --workers 2`, on a port that stays the same. `log` is the output of all its processes."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.log = folder / "log"
        self._folder = folder
        self._environment = environment(**production(database_url))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Starts the service. Tries again while workers of a killed service still use the port."""
        deadline = time.monotonic() + START_SECONDS
        while not self._has_started():
            assert self._process.returncode == 1, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def _has_started(self) -> bool:
        with self.log.open("ab") as log:
            begin = log.tell()
            arguments = ["serve", "--workers", str(WORKERS), "--port", str(self._port)]
            self._process = subprocess.Popen(
                [COMMAND, *arguments], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        while self._process.poll() is None:
            if b"serving at http://" in self.log.read_bytes()[begin:]:
                return True
            time.sleep(0.05)
        assert b"cannot listen on" in self.log.read_bytes()[begin:], self.log.read_text()[-2000:]
        return False

    def kill_a_worker(self, random: Random) -> None:
        """Kills one worker. The service replaces it."""
        if workers := workers_of(self._process.pid):
            kill([random.choice(workers)])

    def kill_main_process(self) -> None:
        """Kills the process that watches the workers. They stop by themselves."""
        self._process.kill()
        self._process.wait()

    def kill_all_processes(self) -> None:
        """Kills everything at the same moment."""
        if self._process.poll() is None:
            # A main process that is still there would replace the workers.
            self._process.send_signal(signal.SIGSTOP)
            kill(workers_of(self._process.pid))
            self.kill_main_process()
