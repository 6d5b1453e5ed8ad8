"""An upgrade while requests are running: old and new processes work side by side, and no request fails."""

import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx2
import pytest

from support.changes import Copy
from support.process import Server, environment, production, run, serving
from support.rows import execute
from support.service import Client, Json

# The last commit whose schema has revision 0003.
OLD = "cfb9c01"
OLD_REVISION, NEW_REVISION = "0003", "0004"

FILLED = 20_000
USERS = 6
PHASE_SECONDS = 2.0


@pytest.fixture(scope="session")
def old_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source code of the old version."""
    repository = Path(__file__).parents[1]
    archive = subprocess.run(["git", "archive", OLD, "src"], cwd=repository, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the old version is not in this repository's history: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


def run_old(source: Path, folder: Path, *arguments: str, **settings: str) -> None:
    """Runs the old version's command until it exits. Its dependencies are those of the new version."""
    code = "import sys; from taskwell.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    variables = environment(**settings, PYTHONPATH=str(source))
    # A setting of the new version.
    del variables["TASKWELL_LOG_FORMAT"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def serving_old(source: Path, folder: Path, **settings: str) -> Iterator[Server]:
    """Serves with the old version."""
    with pytest.MonkeyPatch.context() as patch:
        launcher = folder / "taskwell"
        launcher.write_text(
            f"#!{sys.executable}\nimport os, sys; sys.path.insert(0, {str(source)!r})\n"
            "del os.environ['TASKWELL_LOG_FORMAT']\n"
            "from taskwell.cli.main import main\nsys.exit(main())\n"
        )
        launcher.chmod(0o755)
        patch.setattr("support.process.COMMAND", launcher)
        with serving(folder, **settings) as server:
            patch.undo()
            yield server


@dataclass
class Load:
    """Users who work all the time, each on one of the processes that are in service."""

    in_service: list[Server] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    titles: dict[str, dict[int, str]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Works until the end of the block."""
        threads = [threading.Thread(target=self._work, args=[f"user-{number}"]) for number in range(USERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _work(self, user: str) -> None:
        chance = random.Random(user)  # noqa: S311 - not a secret
        own = self.titles.setdefault(user, {})
        while not self._over.is_set():
            server = chance.choice(self.in_service)
            try:
                self._send(Client(server.http, user), chance, own, server.url)
            except (httpx2.HTTPError, AssertionError) as error:
                self.failures.append(f"{server.url}: {error!r}")

    def _send(self, client: Client, chance: random.Random, own: dict[int, str], url: str) -> None:
        kind = chance.choice(["POST", "PATCH", "DELETE", "GET", "list", "changes"] if own else ["POST"])
        task = chance.choice(list(own)) if own else 0
        title = f"{chance.random()}"
        requests: dict[str, tuple[str, str | int, Json | None]] = {
            "POST": ("POST", "", {"title": title}),
            "PATCH": ("PATCH", task, {"title": title}),
            "DELETE": ("DELETE", task, None),
            "GET": ("GET", task, None),
            "list": ("GET", f"{client.home}?limit=20", None),
            "changes": ("GET", f"/api/{client.user}/changes?limit=20", None),
        }
        method, path, body = requests[kind]
        response = client.request(method, path, json=body)
        assert response.is_success, f"{method} {path} {response.status_code} {response.text}"
        self.outcomes[url] += 1
        if kind == "POST":
            own[response.json()["id"]] = title
        elif kind == "PATCH":
            own[task] = title
        elif kind == "DELETE":
            del own[task]
        elif kind == "GET":
            assert response.json()["title"] == own[task]

    def replace(self, old: Server | None, new: Server | None) -> None:
        """Puts a process into service, or takes one out of it and stops it when its last request has ended."""
        if new:
            self.in_service.append(new)
        if old:
            self.in_service.remove(old)
            # As a load balancer waits before it lets a process stop.
            time.sleep(0.5)
            assert old.end(signal.SIGTERM) == 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_no_request_fails_while_a_newer_version_replaces_an_older_one(
    engine: str, old_source: Path, tmp_path: Path, new_database_url: Callable[[str], str]
) -> None:
    settings = production(new_database_url(engine))
    url = settings["DATABASE_URL"]
    run_old(old_source, tmp_path, "migrate", **settings)
    fill(engine, url)
    assert revision_of(url) == OLD_REVISION
    folders = iter([tmp_path / name for name in "abcd"])
    load = Load()
    with ExitStack() as stack:

        def start(old: Path | None) -> Server:
            folder = next(folders)
            folder.mkdir()
            return stack.enter_context(serving_old(old, folder, **settings) if old else serving(folder, **settings))

        old = [start(old_source) for _ in range(2)]
        for server in old:
            assert "/api/{user_id}/events" not in server.http.get("/openapi.json").json()["paths"]
            load.replace(None, server)
        with load.running():
            time.sleep(PHASE_SECONDS)
            migrated = run(tmp_path, "migrate", **settings)
            assert migrated.returncode == 0, migrated.stderr
            assert revision_of(url) == NEW_REVISION
            before = load.outcomes.copy()
            time.sleep(PHASE_SECONDS)
            assert all(load.outcomes[server.url] > before[server.url] for server in old), "the old ones do not serve"
            new = [start(None)]
            load.replace(None, new[0])
            time.sleep(PHASE_SECONDS)
            assert load.outcomes[new[0].url] > 0
            load.replace(old[0], None)
            new.append(start(None))
            load.replace(old[1], new[1])
            time.sleep(PHASE_SECONDS)
        assert load.failures == []
        assert all(load.outcomes[server.url] > 0 for server in (*old, *new))
        for user, titles in load.titles.items():
            copy = Copy(new[0].client(user))
            copy.sync()
            assert {task_id: task["title"] for task_id, task in copy.tasks.items()} == titles
        for server in (*old, *new):
            log = server.log.read_text()
            assert "Traceback" not in log
            assert " ERROR " not in log
        assert new[1].client("filled").request("GET", "?limit=1").json()["count"] == FILLED


def fill(engine: str, url: str) -> None:
    moment = "now()" if engine == "postgres" else "datetime('now') || '.000000'"
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {FILLED})"  # noqa: S608 - our own
    columns = "user_id, title, created_at, updated_at, revision, creation_key"
    execute(
        url,
        f"INSERT INTO task ({columns}) {numbers} "  # noqa: S608 - our own
        f"SELECT 'filled', 'Task ' || n, {moment}, {moment}, n, 'key ' || n FROM numbers",
    )
    if engine == "postgres":
        execute(url, f"INSERT INTO owner VALUES ('filled', {FILLED}, 1)")  # noqa: S608 - our own


def revision_of(url: str) -> object:
    ((revision,),) = execute(url, "SELECT version_num FROM alembic_version")
    return revision
