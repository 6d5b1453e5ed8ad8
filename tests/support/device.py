"""A device with the example of a client that works offline: a process of Node, and the file in which it stores everything."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.service import Json, sign

WAIT_SECONDS = 30


@dataclass
class Device:
    """A device of one user, which reaches the service at `url`. It is off at first."""

    program: Path
    file: Path
    url: str
    user: str
    token: str = ""
    last: Json = field(default_factory=dict)
    _process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Starts the app."""
        fresh = sign(self.user)
        self._process = subprocess.Popen(
            ["node", self.program, f"{self.url}/api/{self.user}", self.file, self.token or fresh, fresh],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def kill(self) -> None:
        """Ends the app at once. Only its file remains."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def do(self, action: str, title: str = "", word: str = "") -> None:
        """Makes the app do something, and waits until it is done."""
        self.begin(action, title, word)
        self.finish()

    def begin(self, action: str, title: str = "", word: str = "") -> None:
        """Makes the app do something."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": action, "title": title, "word": word}) + "\n")

    def finish(self) -> None:
        """Waits until what was begun is done."""
        assert self._process
        assert self._process.stdout
        alarm = threading.Timer(2 * WAIT_SECONDS, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        assert line, "the app has ended, or does not get done"
        self.last = json.loads(line)

    def view(self) -> list[Json]:
        """Returns the tasks that the user sees, newest first."""
        self.do("view")
        tasks: list[Json] = self.last["tasks"]
        return tasks

    def shown(self) -> dict[str, str | None]:
        """Returns the description of each task that the user sees, by its title."""
        return {task["title"]: task["description"] for task in self.view()}

    @property
    def refusals(self) -> list[list[str]]:
        """The operation, the error and the title of each write that the service refused since the app was started."""
        refused: list[list[str]] = self.last["refusals"]
        return refused

    def wait_until(self, condition: Callable[[list[Json]], bool], seconds: float = WAIT_SECONDS) -> None:
        """Waits until the user sees tasks for which the condition holds, without asking the service."""
        deadline = time.monotonic() + seconds
        while not condition(self.view()):
            assert time.monotonic() < deadline, self.last
            time.sleep(0.02)


@contextmanager
def running_devices(*devices: Device) -> Iterator[None]:
    """Starts devices, and ends them."""
    try:
        for device in devices:
            device.start()
        yield
    finally:
        for device in devices:
            device.kill()
