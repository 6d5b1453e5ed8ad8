"""The service under test: the real application behind a real socket, and clients of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import jwt

from taskwell.app import create_app
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.migrations.runner import distribute, upgrade
from taskwell.server.run import Server, listen
from taskwell.settings import Settings

SECRET = "a-secret-of-the-test-suite-and-of-nothing-else"

Json = dict[str, Any]


def sign(user: str, secret: str = SECRET, **claims: object) -> str:
    """A token for `user`; a claim given as None is left out."""
    now = int(time.time())
    payload = {"sub": user, "iat": now, "exp": now + 900} | claims
    return jwt.encode({name: value for name, value in payload.items() if value is not None}, secret, "HS256")


@dataclass
class Client:
    """A user's own view of the service; a path that begins with a slash is taken as it is."""

    http: httpx2.Client
    user: str = field(default_factory=lambda: f"user-{uuid4().hex}")

    @property
    def home(self) -> str:
        return f"/api/{self.user}/tasks"

    def request(self, method: str, path: str | int = "", **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {sign(self.user)}"} | options.pop("headers", {})
        url = path if str(path).startswith("/") else f"{self.home}/{path}".rstrip("/")
        return self.http.request(method, str(url), headers=headers, **options)

    def create(self, title: str = "Buy milk", **members: object) -> Json:
        answer = self.request("POST", json={"title": title, **members})
        assert answer.status_code == 201, answer.text
        task: Json = answer.json()
        return task

    def titles(self, **query: object) -> list[str]:
        answer = self.request("GET", params=query)
        assert answer.status_code == 200, answer.text
        return [task["title"] for task in answer.json()["tasks"]]


def use_every_endpoint(alice: Client) -> None:
    """Each of the endpoints but the erasure does its job, with nine writes; no task is left in the list."""
    task = alice.create()
    assert alice.request("GET", task["id"]).json() == task
    assert alice.request("PUT", task["id"], json={"title": "a", "complete": True}).status_code == 200
    assert alice.request("PATCH", task["id"], json={"title": "b"}).status_code == 200
    assert alice.titles() == ["b"]
    assert alice.request("DELETE", task["id"]).status_code == 204
    trash = alice.home.removesuffix("tasks") + "trash"
    assert [one["id"] for one in alice.request("GET", trash).json()["tasks"]][:1] == [task["id"]]
    assert alice.request("POST", f"{trash}/{task['id']}/restore").status_code == 200
    assert alice.request("DELETE", task["id"]).status_code == 204
    created = alice.request("POST", "batch", json={"operations": [{"op": "create", "task": {"title": "c"}}]})
    deletion = {"op": "delete", "id": created.json()["results"][0]["task"]["id"]}
    assert alice.request("POST", "batch", json={"operations": [deletion]}).json()["results"][0]["status"] == 204
    assert alice.titles() == []


@dataclass
class Service:
    """A running service, and the settings it runs with."""

    url: str
    settings: Settings
    state: dict[str, Any]
    http: httpx2.Client
    engine: str
    url_of_database: str

    def client(self, user: str | None = None) -> Client:
        return Client(self.http, user) if user else Client(self.http)


def create_schema(engine: str, url: str) -> None:
    """Gives the database this version's schema and, on Citus, distributes it."""
    parsed = parse_database_url(url)
    upgrade(parsed)
    if engine == "citus":
        assert isinstance(parsed, PostgresURL)
        distribute(parsed)


@contextmanager
def running(engine: str, *, migrate: bool = True, **environment: str) -> Iterator[Service]:
    """Serves on a free port, from a database that is migrated first, unless there is none."""
    settings = Settings.read(
        {"BETTER_AUTH_SECRET": SECRET, "TASKWELL_POOL_MIN": "1", "TASKWELL_LOG_FORMAT": "text", **environment}
    )
    if migrate:
        create_schema(engine, environment["DATABASE_URL"])
    listener = listen("127.0.0.1", 0)
    server = Server(create_app(settings), settings)
    thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service does not start"
        time.sleep(0.005)
    host, port = listener.getsockname()
    # Beyond a number of idle connections httpx2 closes some, now and then one that another thread is just about to use.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    # Without TLS there is no store of certificates to load, which takes longer than most tests.
    with httpx2.Client(base_url=f"http://{host}:{port}", timeout=15, verify=False, limits=limits) as http:
        yield Service(str(http.base_url), settings, server.lifespan.state, http, engine, environment["DATABASE_URL"])
    server.should_exit = True
    thread.join()
