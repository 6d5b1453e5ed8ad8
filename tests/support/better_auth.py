"""Runs the Better Auth server of examples/better-auth for tests.

A test configures the server as a reader of the example would: by editing `plugins: [jwt()]` in auth.mjs.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx2

from support.npm import require_packages
from support.ports import free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "better-auth"
SECRET = "mX3vQ8rT1kLz6BfW0sYh9JdN4cGp7UaE2oKi5tRw"
PASSWORD = "correct horse battery staple"
START_SECONDS = 30

COOKIE_CACHE = 'session: { cookieCache: { enabled: true, strategy: "jwt" } }, '
"""For `options`: Better Auth also keeps the session in a cookie, as a JWT that is not an access token."""


@dataclass(frozen=True)
class User:
    """A user who has signed up, with the cookies that their browser holds."""

    id: str
    email: str
    session_token: str
    cookies: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    @property
    def cached_session(self) -> str:
        """The session as a JWT. Needs a server started with `COOKIE_CACHE`."""
        return self.cookies["better-auth.session_data"]


class BetterAuth:
    """A server process on a free loopback port. It runs as long as the `with` block.

    `jwt` replaces `jwt()` in auth.mjs, and `options` is added to its `betterAuth({ … })`. `config` and `server` name
    other files to use for auth.mjs and server.mjs. Servers with the same `database` share users, sessions and keys.
    A test may change `environment` before a start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        jwt: str = "jwt()",
        options: str = "",
        database: Path | None = None,
        config: Path = EXAMPLE / "auth.mjs",
        server: Path = EXAMPLE / "server.mjs",
        **environment: str,
    ) -> None:
        require_packages(EXAMPLE)
        self._folder = folder
        self._config = config
        self._server = server
        self._log = folder / "log"
        self.database = database or folder / "auth.db"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(self.port),
            "DATABASE": str(self.database),
            "BETTER_AUTH_URL": self.url,
            "BETTER_AUTH_SECRET": SECRET,
        } | environment
        self._process: subprocess.Popen[bytes] | None = None
        self._copy_example()
        self._configure(jwt, options)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Migrates the database, starts the server and waits until it listens."""
        self.migrate()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["node", self._server.name], cwd=self._folder, env=self.environment, stdout=log, stderr=log
            )
        self._wait_until_it_listens(self._process)

    def migrate(self) -> list[str]:
        """Creates what is missing of the database and returns the lines that migrate.mjs prints."""
        command = ["node", "migrate.mjs"]
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def stop(self) -> None:
        """Stops the server if it runs. A later start uses the same port and database."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, jwt: str = "jwt()", options: str = "") -> None:
        """Restarts the server with another configuration, on the same port and database."""
        self.stop()
        self._configure(jwt, options)
        self.start()

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Sends one request to `path`, without a shared cookie jar."""
        return httpx2.request(method, f"{self.url}{path}", timeout=15, verify=False, trust_env=False, **options)

    def sign_up(self, name: str = "Alice") -> User:
        """Signs up a new user and returns them, signed in."""
        email = f"{uuid4().hex}@example.org"
        body = {"name": name, "email": email, "password": PASSWORD}
        response = self.request("POST", "/api/auth/sign-up/email", json=body)
        assert response.status_code == 200, response.text
        return User(response.json()["user"]["id"], email, response.json()["token"], _cookies(response))

    def token(self, user: User) -> str:
        """Returns an access token for the task API, fetched as the user's browser would."""
        response = self.request("GET", "/api/auth/token", headers=user.headers)
        assert response.status_code == 200, response.text
        token: str = response.json()["token"]
        return token

    def keys(self) -> dict[str, dict[str, str]]:
        """Returns the keys of the key set by `kid`."""
        response = self.request("GET", "/api/auth/jwks")
        assert response.status_code == 200, response.text
        return {key["kid"]: key for key in response.json()["keys"]}

    def expire_keys(self) -> None:
        """Expires all keys, as the end of `rotationInterval` does: the next token is signed with a new key."""
        moment_ago = datetime.now(UTC) - timedelta(seconds=1)
        self._execute("UPDATE jwks SET expiresAt = ?", moment_ago.strftime("%Y-%m-%dT%H:%M:%S.000Z"))

    def delete_keys(self) -> None:
        """Deletes all keys, as an operator does when keys have leaked."""
        self._execute("DELETE FROM jwks")

    def _execute(self, sql: str, *values: str) -> None:
        connection = sqlite3.connect(self.database, timeout=10)
        with connection:
            connection.execute(sql, values)
        connection.close()

    def _copy_example(self) -> None:
        for file in {*EXAMPLE.glob("*.mjs"), self._server}:
            shutil.copy(file, self._folder)
        (self._folder / "node_modules").symlink_to(EXAMPLE / "node_modules", target_is_directory=True)

    def _configure(self, jwt: str, options: str) -> None:
        before, plugin, after = self._config.read_text().partition("plugins: [jwt()]")
        assert plugin, f"{self._config.name} no longer contains `plugins: [jwt()]`, which tests replace"
        (self._folder / "auth.mjs").write_text(f"{before}{options}plugins: [{jwt}]{after}")

    def _wait_until_it_listens(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_SECONDS
        while "listens on" not in (output := self._log.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Better Auth does not start:\n{output}")
            time.sleep(0.02)


def _cookies(response: httpx2.Response) -> dict[str, str]:
    jar = SimpleCookie()
    for header in response.headers.get_list("set-cookie"):
        jar.load(header)
    return {name: morsel.value for name, morsel in jar.items()}
