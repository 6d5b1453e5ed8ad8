"""`taskwell doctor` says what is wrong and what to do about it, and gives no secret away."""

import asyncio
import json
import socket
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from support.auth_server import AuthServer, Behaviour, body, key_set
from support.better_auth import BetterAuth
from support.postgres import USER, PostgresServer, find_binaries
from support.process import COMMAND, WAIT_SECONDS, environment, production, run, serving
from support.rows import execute
from support.servers import WANTED
from support.service import SECRET, sign
from support.tokens import Signer, jwk, private_key
from taskwell.auth import jwks_client
from taskwell.cli.doctor import database as examined_database
from taskwell.cli.doctor.auth import examine_auth
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.settings import Settings

PRIVATE = private_key("EdDSA")
PASSWORD = "correct-horse-battery-staple"
AUDIENCE = "https://tasks.example"


@pytest.fixture(scope="module")
def migrated(new_database_url: Callable[[str], str]) -> str:
    url = new_database_url("sqlite")
    upgrade(parse_database_url(url))
    return url


@pytest.fixture(scope="module")
def auth() -> Iterator[AuthServer]:
    with AuthServer(key_set(jwk(PRIVATE, kid="known", alg="EdDSA"))) as server:
        yield server


@pytest.fixture
def signer(auth: AuthServer) -> Signer:
    return Signer("EdDSA", PRIVATE, {"kid": "known"}, {"iss": auth.origin, "aud": auth.origin})


def lines(output: str, mark: str) -> list[str]:
    """The subjects with that mark."""
    return [line[6:18].strip() for line in output.splitlines() if line.startswith(f"{mark:<6}") and line[6:7] != " "]


def remedy_of(output: str, subject: str) -> str:
    """What is said to do about it."""
    before, _, after = output.partition(f"  {subject:<12}")
    assert before, output
    _, remedy = after.splitlines()[:2]
    assert remedy.startswith(f"{'':6}remedy"), output
    return remedy[18:]


def only_failure(done: "subprocess.CompletedProcess[str]", subject: str) -> str:
    """The text of the one line that fails, and its remedy."""
    assert (done.returncode, done.stderr) == (1, ""), done
    assert lines(done.stdout, "fail") == [subject], done.stdout
    text = next(line[18:] for line in done.stdout.splitlines() if line.startswith("fail"))
    return f"{text} -> {remedy_of(done.stdout, subject)}"


# --- settings


def test_with_no_settings_it_looks_at_what_dev_uses_and_makes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor")
    assert f"there is no file {tmp_path / 'taskwell.db'}" in only_failure(done, "database")
    assert lines(done.stdout, "warn") == ["settings"]
    assert list(tmp_path.iterdir()) == []


def test_after_dev_has_run_its_own_token_is_accepted(tmp_path: Path) -> None:
    token = run(tmp_path, "token", "--user", "größe/1").stdout
    upgrade(parse_database_url(f"sqlite:///{tmp_path}/taskwell.db"))
    done = run(tmp_path, "doctor", "--token", token.strip())
    assert (done.returncode, done.stderr, lines(done.stdout, "fail")) == (0, "", [])
    assert 'of user "gr\\u00f6\\u00dfe/1", whose tasks are at /api/gr%C3%B6%C3%9Fe%2F1/tasks' in done.stdout


def test_unusable_settings_are_named_all_at_once_and_are_a_status_of_their_own(tmp_path: Path) -> None:
    url = f"postgresql://u:{PASSWORD}@db.example/x?sslmod=require"
    done = run(tmp_path, "doctor", DATABASE_URL=url, BETTER_AUTH_SECRET="hunter2", TASKWELL_POOLMAX="7")
    assert (done.returncode, done.stderr) == (2, "")
    reasons = [line.split()[2] for line in done.stdout.splitlines()]
    assert reasons == ["TASKWELL_POOLMAX:", "DATABASE_URL:", "BETTER_AUTH_SECRET:"]
    assert PASSWORD not in done.stdout
    assert "hunter2" not in done.stdout


def test_a_wrong_option_is_wrong_use(tmp_path: Path) -> None:
    assert run(tmp_path, "doctor", "--tokn", "x").returncode == 2


# --- the database


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_database_that_is_ready_is_well(engine: str, new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    url = new_database_url(engine)
    upgrade(parse_database_url(url))
    done = run(tmp_path, "doctor", **production(url))
    assert (done.returncode, done.stderr) == (0, "")
    parts = ["connection", "encryption"] if engine == "postgres" else ["durability"]
    assert lines(done.stdout, "ok") == ["settings", "database", *parts, "schema", "auth"]
    assert done.stdout.endswith(f"\n\n{len(parts) + 4} checks: {len(parts) + 4} ok, 0 warn, 0 fail\n")


def test_a_database_without_tables_is_to_be_migrated(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", **production(new_database_url("postgres")))
    assert "Run: taskwell migrate" in only_failure(done, "schema")


def test_a_newer_schema_wants_the_newer_version(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    url = new_database_url("sqlite")
    upgrade(parse_database_url(url))
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    assert "Run the newer version" in only_failure(run(tmp_path, "doctor", **production(url)), "schema")


def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://taskwell:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/tasks"
        done = run(tmp_path, "doctor", **production(url))
    assert "start the server, or correct host and port in DATABASE_URL" in only_failure(done, "database")
    assert PASSWORD not in done.stdout


def test_a_server_that_hangs_is_given_up_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        done = run(tmp_path, "doctor", **production(f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/c"))
    assert "TimeoutError" in only_failure(done, "database")
    assert time.monotonic() - began < 8


def test_a_database_that_does_not_exist_is_to_be_created(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    done = run(tmp_path, "doctor", **production(new_database_url("postgres") + "_not"))
    assert "create the database, or correct its name" in only_failure(done, "database")


class BehindASocket(PostgresServer):
    """A server that only a Unix socket in `folder` leads to."""

    def _serve(self, binaries: Path, access: list[str], settings: dict[str, str]) -> None:
        self.folder = self._folder
        here = {"listen_addresses": "", "unix_socket_directories": str(self.folder)}
        super()._serve(binaries, access, settings | here)


@pytest.fixture
def behind_a_socket() -> Iterator[BehindASocket]:
    binaries = find_binaries()
    if not binaries:
        pytest.skip(WANTED["postgres"])
    server = BehindASocket(binaries)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder near the root: a socket's address has room for a hundred bytes or so."""
    with TemporaryDirectory(prefix="tw-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_server_behind_a_unix_socket_is_on_this_machine(
    behind_a_socket: BehindASocket, short_path: Path, tmp_path: Path
) -> None:
    port, instance = behind_a_socket.port, short_path / "project:Region:instance"
    instance.symlink_to(behind_a_socket.folder)
    in_the_host = f"postgresql://{USER}@{quote(str(instance), safe='')}:{port}/postgres"
    as_a_parameter = f"postgresql://{USER}@:{port}/postgres?host={instance}"
    assert run(tmp_path, "migrate", **production(in_the_host)).returncode == 0
    for url in (in_the_host, as_a_parameter):
        done = run(tmp_path, "doctor", **production(url))
        assert (done.returncode, done.stderr) == (0, "")
        assert "none; the server is on this machine" in done.stdout
    with serving(tmp_path, **production(as_a_parameter)) as server:
        assert server.http.get("/health/ready").status_code == 200


def test_a_unix_socket_that_is_not_there_has_its_remedy(short_path: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", **production(f"postgresql://a:b@/c?host={short_path}"))
    assert "start the server whose socket it is" in only_failure(done, "database")


@pytest.mark.parametrize("command", ["doctor", "migrate", "serve"])
def test_a_host_that_cannot_be_one_is_an_unusable_setting(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, command, **production(f"postgresql://a:{PASSWORD}@db..example/d"))
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert "DATABASE_URL: has a host that cannot be one" in said
    assert "Traceback" not in said
    assert PASSWORD not in said


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE other (id)")
    connection.close()
    before = file.read_bytes()
    done = run(tmp_path, "doctor", **production(f"sqlite:///{file}"))
    assert "journal mode is delete, not wal" in only_failure(done, "durability")
    assert (list(tmp_path.iterdir()), file.read_bytes()) == ([file], before)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Buy milk. " * 200)
    done = run(tmp_path, "doctor", **production("sqlite:///notes.txt"))
    assert "file is not a database -> name an SQLite database" in only_failure(done, "durability")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anything.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
    (tmp_path / "taskwell.db").touch()
    (finding,) = examined_database._sqlite(tmp_path / "taskwell.db")
    assert (finding.mark, finding.text) == ("fail", f"{tmp_path} cannot be written")


class Connection:
    """What the doctor looks at in a connection of asyncpg's."""

    def __init__(self, *, pid: int = 1, peer: str = "192.0.2.1", tls: ssl.SSLObject | None = None) -> None:
        self._pid = pid
        self._transport = SimpleNamespace(get_extra_info={"peername": (peer, 5432), "ssl_object": tls}.get)

    def get_server_pid(self) -> int:
        return 1

    async def fetchval(self, query: str, *, timeout: float) -> int:  # noqa: ASYNC109
        assert (query, timeout) == ("SELECT pg_backend_pid()", 2)
        return self._pid


@pytest.mark.parametrize(
    ("host", "query", "pid", "statements", "mark", "text"),
    [
        ("db.example", "", 1, "auto", "ok", "direct"),
        ("db.example", "", 1, "on", "ok", "direct"),
        ("db.example", "", 2, "auto", "ok", "pooler; statements are sent without a name"),
        ("db.example", "", 2, "off", "ok", "pooler; statements are sent without a name"),
        ("db.example", "", 2, "on", "warn", "pooler, with named statements"),
        ("db.example", "?pgbouncer=true", 1, "auto", "ok", "pooler; statements are sent without a name"),
        ("db.example", "?pgbouncer=true", 1, "on", "warn", "pooler, with named statements"),
        ("ep-a-1.eu-central-1.aws.neon.tech", "", 2, "auto", "ok", "direct"),
        ("ep-a-1-pooler.eu-central-1.aws.neon.tech", "", 2, "auto", "ok", "Neon's pooler"),
    ],
)
def test_a_pooler_that_may_mix_up_answers_is_pointed_out(
    host: str, query: str, pid: int, statements: str, mark: str, text: str
) -> None:
    settings = Settings.read(
        production(f"postgresql://a:b@{host}/c{query}") | {"TASKWELL_PREPARED_STATEMENTS": statements}
    )
    assert isinstance(settings.DATABASE_URL, PostgresURL)
    connection: Any = Connection(pid=pid)
    finding = asyncio.run(examined_database._route(settings, settings.DATABASE_URL, connection))
    assert (finding.mark, text in finding.text) == (mark, True)


def _tls(mode: ssl.VerifyMode, *, host: bool) -> ssl.SSLObject:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = host
    context.verify_mode = mode
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="db.example")


@pytest.mark.parametrize(
    ("connection", "mark", "text"),
    [
        (Connection(), "warn", "reads along"),
        (Connection(tls=_tls(ssl.CERT_NONE, host=False)), "warn", "can pose as the database"),
        (Connection(tls=_tls(ssl.CERT_REQUIRED, host=False)), "warn", "can pose as the database"),
        (Connection(tls=_tls(ssl.CERT_REQUIRED, host=True)), "ok", "host name verified"),
        (Connection(peer="127.0.0.1"), "ok", "on this machine"),
        (Connection(peer="::1"), "ok", "on this machine"),
    ],
)
def test_a_connection_that_others_can_read_or_pose_in_is_pointed_out(
    connection: Connection, mark: str, text: str
) -> None:
    finding = examined_database._encryption(connection)  # type: ignore[arg-type]
    assert (finding.mark, text in finding.text) == (mark, True)
    assert ("sslmode=verify-full" in finding.remedy) is (mark == "warn")


# --- the key set


def _diagnosis(settings: Settings, token: str | None = None) -> str:
    async def findings() -> list[str]:
        return [str(finding) async for finding in examine_auth(settings, token)]

    return "\n".join(asyncio.run(findings()))


def _settings(url: str, **others: str) -> Settings:
    return Settings.read({"DATABASE_URL": "sqlite:///unused.db", "BETTER_AUTH_URL": url, **others})


def test_a_good_key_set_is_counted_and_timed_and_the_clock_compared(
    auth: AuthServer, migrated: str, tmp_path: Path
) -> None:
    done = run(tmp_path, "doctor", DATABASE_URL=migrated, BETTER_AUTH_URL=auth.origin)
    assert (done.returncode, lines(done.stdout, "ok")[-3:]) == (0, ["auth", "key set", "clock"])
    assert f"1 usable (Ed25519/EdDSA) from {auth.origin}/api/auth/jwks in 0." in done.stdout
    assert f'with iss "{auth.origin}" and with aud "{auth.origin}"' in done.stdout


def test_keys_that_are_left_out_are_named() -> None:
    weak = {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}
    with AuthServer(key_set(jwk(PRIVATE, kid="known"), weak)) as server:
        text = _diagnosis(_settings(server.origin))
    assert '1 left out: kid "symmetric"' in text
    assert "c2VjcmV0" not in text
    assert lines(text, "warn") == ["key set"]


@pytest.mark.parametrize(
    ("behaviour", "text", "remedy"),
    [
        (body(b"{}", 500), "answered with status 500", "made the table jwks"),
        (body(b"{}", 404), "answered with status 404", "path that Better Auth is mounted at"),
        (body(b"{}", 429), "answered with status 429", "wait a minute"),
        (body(b"{}", 401), "answered with status 401", "nothing may ask for a login"),
        (body(b"", 302, Location="https://a.example"), "answered with status 302", "redirects are not followed"),
        (body(b"<!doctype html>"), "not JSON", "write the URL of a key set"),
        (key_set(), "no usable key", "write the URL of a key set"),
    ],
    ids=["500", "404", "429", "401", "302", "html", "empty"],
)
def test_what_is_no_key_set_has_its_remedy(behaviour: Behaviour, text: str, remedy: str) -> None:
    with AuthServer(behaviour) as server:
        said = _diagnosis(_settings(server.origin), Signer("EdDSA", PRIVATE).token("alice"))
    assert text in said
    assert remedy in remedy_of(said, "key set")
    assert lines(said, "fail")[0] == "key set"


def test_a_token_without_keys_at_hand_is_neither_accepted_nor_refused(signer: Signer, auth: AuthServer) -> None:
    with AuthServer(body(b"", 500)) as server:
        url = f"{server.origin}/keys?apikey={PASSWORD}"
        said = _diagnosis(_settings(auth.origin, JWT_JWKS_URL=url), signer.token("alice"))
    assert "all but its signature is well" in said
    assert PASSWORD not in said


def test_a_slow_key_set_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_client, "FETCH_SECONDS", 0.2)

    def dribble(request: BaseHTTPRequestHandler) -> None:
        del request
        server.over.wait(5)

    with AuthServer(dribble) as server:
        said = _diagnosis(_settings(server.origin))
    assert "did not answer within 0.2 s" in said
    assert "start the auth server" in remedy_of(said, "key set")
    assert "clock" not in said


@pytest.mark.parametrize(
    ("date", "more", "text"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", {}, "days ahead of the auth server's"),
        ("Thu, 01 Jan 2099 00:00:00 GMT", {}, "days behind the auth server's"),
        ("yesterday", {}, "no time to compare with"),
        ("Thu, 01 Jan 2099 00:00:00 GMT", {"Age": "7"}, "no time to compare with"),
    ],
)
def test_a_wrong_clock_is_a_warning(date: str, more: dict[str, str], text: str) -> None:
    keys = json.dumps({"keys": [jwk(PRIVATE, kid="known")]}).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        # The library sends a Date of its own, too, unless this is what it sends.
        request.date_time_string = lambda timestamp=None: date  # type: ignore[method-assign]  # noqa: ARG005
        body(keys, **more)(request)  # type: ignore[arg-type]

    with AuthServer(answer) as server:
        said = _diagnosis(_settings(server.origin))
    assert lines(said, "warn") == ["clock"]
    assert text in said


# --- the token


def _made(signer: Signer, **claims: object) -> Callable[[], str]:
    return lambda: signer.token("alice", **claims)


def test_a_good_token_is_accepted_also_from_standard_input(
    signer: Signer, auth: AuthServer, migrated: str, tmp_path: Path
) -> None:
    token = signer.token("alice")
    done = subprocess.run(
        [COMMAND, "doctor", "--token", "-"],
        cwd=tmp_path,
        env=environment(DATABASE_URL=migrated, BETTER_AUTH_URL=auth.origin),
        input=f"{token}\n",
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr, lines(done.stdout, "fail")) == (0, "", [])
    assert 'accepted: of user "alice", whose tasks are at /api/alice/tasks; valid for 15 minutes' in done.stdout
    assert token.rpartition(".")[2] not in done.stdout


def _refused(signer: Signer) -> dict[str, tuple[str, str]]:
    """Tokens that are refused, and what is said of them."""
    now = int(time.time())
    token = signer.token("alice")
    stranger = Signer("EdDSA", private_key("EdDSA"), signer.header, signer.claims)
    return {
        "expired": (signer.token("alice", exp=now - 600), "it expired 10 minutes ago -> get a new one"),
        "future": (signer.token("alice", iat=now + 600), "it is from the future"),
        "issuer": (signer.token("alice", iss="https://e.example"), 'its iss is "https://e.example", and must be "http'),
        "audience": (signer.token("alice", aud=[AUDIENCE]), f'its aud is ["{AUDIENCE}"], and must be "http'),
        "no audience": (signer.token("alice", aud=None), "its aud is absent, and must be"),
        "kid": (signer.token("alice", {"kid": "other"}), 'its kid is "other", and the key set has ["known"]'),
        "no kid": (signer.token("alice", {"kid": None}), 'its kid is absent, and the key set has ["known"]'),
        "signature": (stranger.token("alice"), 'its signature is not of the key "known" -> get a new token'),
        "user": (signer.token("alice", sub=None), "its user_id is absent, its sub absent"),
        "two users": (signer.token("alice", user_id="bob"), 'its user_id is "bob", its sub "alice"'),
        "algorithm": (signer.token("alice", {"alg": "ES256"}), 'its alg is "ES256", which its key is not for'),
        "milliseconds": (signer.token("alice", exp=now * 1000), "its exp is not a number, or is too large"),
        "cookie": (signer.token("alice", {"typ": "better-auth.session-cache+jwt"}), "its typ is not JWT"),
        "hs256": (sign("alice"), 'its alg is "HS256", so it was signed with a shared secret'),
        "bearer": (f"Bearer {token}", "not three base64url parts -> send a token from"),
        "session": ("Zx8" * 10, "not three base64url parts -> send a token from"),
        "terminal": (signer.token("alice", iss="\x1b[2J"), 'its iss is "\\u001b[2J"'),
        "long": (signer.token("alice", iss="x" * 3000), "xxx..., and must be"),
    }


REFUSED = list(_refused(Signer("EdDSA", PRIVATE)))
AS_A_PROCESS = ["expired", "issuer", "audience", "kid", "signature", "user", "hs256", "session"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_token_is_told_what_is_wrong_and_what_to_do(name: str, signer: Signer, auth: AuthServer) -> None:
    token, text = _refused(signer)[name]
    said = _diagnosis(_settings(auth.origin), token)
    assert lines(said, "fail") == ["token"]
    found = next(line[18:] for line in said.splitlines() if line.startswith("fail"))
    assert text in f"{found} -> {remedy_of(said, 'token')}"
    assert not any(part in said for part in token.split(".") if len(part) > 20)
    assert said.isascii()
    assert "\x1b" not in said


def test_the_installed_command_refuses_them_too(
    signer: Signer, auth: AuthServer, migrated: str, tmp_path: Path
) -> None:
    made = _refused(signer)

    def doctor(name: str) -> "subprocess.CompletedProcess[str]":
        return run(tmp_path, "doctor", "--token", made[name][0], DATABASE_URL=migrated, BETTER_AUTH_URL=auth.origin)

    with ThreadPoolExecutor(2) as pool:
        for name, done in zip(AS_A_PROCESS, pool.map(doctor, AS_A_PROCESS), strict=True):
            token, text = made[name]
            assert text in only_failure(done, "token")
            assert token not in done.stdout


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (sign("alice", "another-secret-of-thirty-two-bytes-or-more"), "set BETTER_AUTH_SECRET to the very secret"),
        (sign("alice", aud=AUDIENCE), f'its aud is "{AUDIENCE}", and must be absent'),
        (Signer("EdDSA", PRIVATE).token("alice", aud=AUDIENCE), "unset BETTER_AUTH_SECRET and set BETTER_AUTH_URL"),
    ],
    ids=["secret", "audience", "mode"],
)
def test_with_a_secret_a_token_of_another_is_told_so(token: str, text: str, migrated: str, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--token", token, **production(migrated))
    assert text in only_failure(done, "token")
    assert SECRET not in done.stdout
    assert token not in done.stdout


def test_a_token_of_a_real_better_auth_is_accepted(migrated: str, tmp_path: Path) -> None:
    with BetterAuth(tmp_path) as better_auth:
        user = better_auth.sign_up()
        token: Any = better_auth.token(user)
        done = run(tmp_path, "doctor", "--token", token, DATABASE_URL=migrated, BETTER_AUTH_URL=better_auth.url)
    assert (done.returncode, lines(done.stdout, "warn") + lines(done.stdout, "fail")) == (0, []), done.stdout
    assert f'accepted: of user "{user.id}"' in done.stdout
    assert user.email not in done.stdout
