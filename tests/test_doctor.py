"""`taskwell doctor` says what is wrong and how to fix it, and never shows a secret."""

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
    """Returns the subjects of the entries with this mark."""
    return [line[6:18].strip() for line in output.splitlines() if line.startswith(f"{mark:<6}") and line[6:7] != " "]


def remedy_of(output: str, subject: str) -> str:
    """Returns the remedy of this subject."""
    before, _, after = output.partition(f"  {subject:<12}")
    assert before, output
    _, remedy = after.splitlines()[:2]
    assert remedy.startswith(f"{'':6}remedy"), output
    return remedy[18:]


def only_failure(done: "subprocess.CompletedProcess[str]", subject: str) -> str:
    """Returns the text and the remedy of the only failed check."""
    assert (done.returncode, done.stderr) == (1, ""), done
    assert lines(done.stdout, "fail") == [subject], done.stdout
    text = next(line[18:] for line in done.stdout.splitlines() if line.startswith("fail"))
    return f"{text} -> {remedy_of(done.stdout, subject)}"


# --- settings


def test_without_settings_the_doctor_checks_those_of_dev_and_creates_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor")
    assert f"the file {tmp_path / 'taskwell.db'} does not exist" in only_failure(done, "database")
    assert lines(done.stdout, "warn") == ["settings"]
    assert list(tmp_path.iterdir()) == []


def test_after_dev_has_run_a_token_of_its_own_is_accepted(tmp_path: Path) -> None:
    token = run(tmp_path, "token", "--user", "größe/1").stdout
    upgrade(parse_database_url(f"sqlite:///{tmp_path}/taskwell.db"))
    done = run(tmp_path, "doctor", "--token", token.strip())
    assert (done.returncode, done.stderr, lines(done.stdout, "fail")) == (0, "", [])
    assert 'its user is "gr\\u00f6\\u00dfe/1", whose tasks are at /api/gr%C3%B6%C3%9Fe%2F1/tasks' in done.stdout


def test_unusable_settings_are_all_named_and_give_status_2(tmp_path: Path) -> None:
    url = f"postgresql://u:{PASSWORD}@db.example/x?sslmod=require"
    done = run(tmp_path, "doctor", DATABASE_URL=url, BETTER_AUTH_SECRET="hunter2", TASKWELL_POOLMAX="7")
    assert (done.returncode, done.stderr) == (2, "")
    reasons = [line.split()[2] for line in done.stdout.splitlines()]
    assert reasons == ["TASKWELL_POOLMAX:", "DATABASE_URL:", "BETTER_AUTH_SECRET:"]
    assert PASSWORD not in done.stdout
    assert "hunter2" not in done.stdout


def test_an_unknown_option_gives_status_2(tmp_path: Path) -> None:
    assert run(tmp_path, "doctor", "--tokn", "x").returncode == 2


# --- the database


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_database_that_is_ready_passes_every_check(
    engine: str, new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database_url(engine)
    upgrade(parse_database_url(url))
    done = run(tmp_path, "doctor", **production(url))
    assert (done.returncode, done.stderr) == (0, "")
    parts = ["connection", "encryption"] if engine == "postgres" else ["durability"]
    assert lines(done.stdout, "ok") == ["settings", "database", *parts, "schema", "auth"]
    assert done.stdout.endswith(f"\n\n{len(parts) + 4} checks: {len(parts) + 4} ok, 0 warn, 0 fail\n")


def test_a_database_without_tables_must_be_migrated(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", **production(new_database_url("postgres")))
    assert "Run: taskwell migrate" in only_failure(done, "schema")


def test_a_newer_schema_needs_the_newer_version(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    url = new_database_url("sqlite")
    upgrade(parse_database_url(url))
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    assert "Run the newer version" in only_failure(run(tmp_path, "doctor", **production(url)), "schema")


def test_a_missing_server_is_reported_without_the_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://taskwell:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/tasks"
        done = run(tmp_path, "doctor", **production(url))
    assert "start the server, or correct the host and the port in DATABASE_URL" in only_failure(done, "database")
    assert PASSWORD not in done.stdout


def test_the_doctor_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        done = run(tmp_path, "doctor", **production(f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/c"))
    assert "TimeoutError" in only_failure(done, "database")
    assert time.monotonic() - began < 8


def test_a_missing_database_has_its_remedy(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", **production(new_database_url("postgres") + "_not"))
    assert "create the database, or correct its name" in only_failure(done, "database")


class BehindASocket(PostgresServer):
    """A server that listens only on a Unix socket in `folder`."""

    def _serve(self, binaries: Path, access: list[str], settings: dict[str, str]) -> None:
        self.folder = self._folder
        only_socket = {"listen_addresses": "", "unix_socket_directories": str(self.folder)}
        super()._serve(binaries, access, settings | only_socket)


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
    """A folder with a short path, because the path of a Unix socket has at most about 100 bytes."""
    with TemporaryDirectory(prefix="tw-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_server_on_a_unix_socket_counts_as_local(
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


def test_a_missing_unix_socket_has_its_remedy(short_path: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", **production(f"postgresql://a:b@/c?host={short_path}"))
    assert "start the server that owns the socket" in only_failure(done, "database")


@pytest.mark.parametrize("command", ["doctor", "migrate", "serve"])
def test_an_invalid_host_is_an_unusable_setting(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, command, **production(f"postgresql://a:{PASSWORD}@db..example/d"))
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert "DATABASE_URL: has an invalid host" in said
    assert "Traceback" not in said
    assert PASSWORD not in said


def test_the_file_of_another_program_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE other (id)")
    connection.close()
    before = file.read_bytes()
    done = run(tmp_path, "doctor", **production(f"sqlite:///{file}"))
    assert "the journal mode is delete instead of wal" in only_failure(done, "durability")
    assert (list(tmp_path.iterdir()), file.read_bytes()) == ([file], before)


def test_a_file_that_is_not_a_database_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Buy milk. " * 200)
    done = run(tmp_path, "doctor", **production("sqlite:///notes.txt"))
    assert "notes.txt is not an SQLite database -> correct the path" in only_failure(done, "durability")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, who can write everywhere.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
    (tmp_path / "taskwell.db").touch()
    (finding,) = examined_database._sqlite(tmp_path / "taskwell.db")
    assert (finding.mark, finding.text) == ("fail", f"{tmp_path} cannot be written")


class Connection:
    """The parts of an asyncpg connection that the doctor uses."""

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
        ("db.example", "", 2, "auto", "ok", "pooler, with unnamed statements"),
        ("db.example", "", 2, "off", "ok", "pooler, with unnamed statements"),
        ("db.example", "", 2, "on", "warn", "pooler, with named statements"),
        ("db.example", "?pgbouncer=true", 1, "auto", "ok", "pooler, with unnamed statements"),
        ("db.example", "?pgbouncer=true", 1, "on", "warn", "pooler, with named statements"),
        ("ep-a-1.eu-central-1.aws.neon.tech", "", 2, "auto", "ok", "direct"),
        ("ep-a-1-pooler.eu-central-1.aws.neon.tech", "", 2, "auto", "ok", "Neon's pooler"),
    ],
)
def test_a_pooler_that_can_mix_up_results_gives_a_warning(
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
        (Connection(), "warn", "can read the data"),
        (Connection(tls=_tls(ssl.CERT_NONE, host=False)), "warn", "others can pose as the database"),
        (Connection(tls=_tls(ssl.CERT_REQUIRED, host=False)), "warn", "others can pose as the database"),
        (Connection(tls=_tls(ssl.CERT_REQUIRED, host=True)), "ok", "host name are verified"),
        (Connection(peer="127.0.0.1"), "ok", "on this machine"),
        (Connection(peer="::1"), "ok", "on this machine"),
    ],
)
def test_a_connection_that_others_can_read_or_fake_gives_a_warning(
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


def test_a_good_key_set_is_reported_with_its_keys_the_time_and_the_clock(
    auth: AuthServer, migrated: str, tmp_path: Path
) -> None:
    done = run(tmp_path, "doctor", DATABASE_URL=migrated, BETTER_AUTH_URL=auth.origin)
    assert (done.returncode, lines(done.stdout, "ok")[-3:]) == (0, ["auth", "key set", "clock"])
    assert f"1 usable (Ed25519/EdDSA) from {auth.origin}/api/auth/jwks in 0." in done.stdout
    assert f'must have iss "{auth.origin}" and must have aud "{auth.origin}"' in done.stdout


def test_ignored_keys_are_named() -> None:
    weak = {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}
    with AuthServer(key_set(jwk(PRIVATE, kid="known"), weak)) as server:
        text = _diagnosis(_settings(server.origin))
    assert '1 ignored: kid "symmetric"' in text
    assert "c2VjcmV0" not in text
    assert lines(text, "warn") == ["key set"]


@pytest.mark.parametrize(
    ("behaviour", "text", "remedy"),
    [
        (body(b"{}", 500), "responded with status 500", "created the table jwks"),
        (body(b"{}", 404), "responded with status 404", "jwt() plugin"),
        (body(b"{}", 429), "responded with status 429", "wait a minute"),
        (body(b"{}", 401), "responded with status 401", "must not require a login"),
        (body(b"", 302, Location="https://a.example"), "responded with status 302", "redirects are not followed"),
        (body(b"<!doctype html>"), "not JSON", "use the URL of a key set"),
        (key_set(), "no usable key", "use the URL of a key set"),
    ],
    ids=["500", "404", "429", "401", "302", "html", "empty"],
)
def test_a_response_without_a_key_set_has_its_remedy(behaviour: Behaviour, text: str, remedy: str) -> None:
    with AuthServer(behaviour) as server:
        said = _diagnosis(_settings(server.origin), Signer("EdDSA", PRIVATE).token("alice"))
    assert text in said
    assert remedy in remedy_of(said, "key set")
    assert lines(said, "fail")[0] == "key set"


def test_without_keys_a_token_is_neither_accepted_nor_refused(signer: Signer, auth: AuthServer) -> None:
    with AuthServer(body(b"", 500)) as server:
        url = f"{server.origin}/keys?apikey={PASSWORD}"
        said = _diagnosis(_settings(auth.origin, JWT_JWKS_URL=url), signer.token("alice"))
    assert "everything but its signature is valid" in said
    assert PASSWORD not in said


def test_the_doctor_does_not_wait_for_a_slow_key_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_client, "FETCH_SECONDS", 0.2)

    def dribble(request: BaseHTTPRequestHandler) -> None:
        del request
        server.over.wait(5)

    with AuthServer(dribble) as server:
        said = _diagnosis(_settings(server.origin))
    assert "did not respond within 0.2 s" in said
    assert "start the auth server" in remedy_of(said, "key set")
    assert "clock" not in said


@pytest.mark.parametrize(
    ("date", "more", "text"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", {}, "days ahead of the auth server's"),
        ("Thu, 01 Jan 2099 00:00:00 GMT", {}, "days behind the auth server's"),
        ("yesterday", {}, "no usable Date to compare with"),
        ("Thu, 01 Jan 2099 00:00:00 GMT", {"Age": "7"}, "no usable Date to compare with"),
    ],
)
def test_a_wrong_clock_gives_a_warning(date: str, more: dict[str, str], text: str) -> None:
    keys = json.dumps({"keys": [jwk(PRIVATE, kid="known")]}).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        # http.server sends its own Date header, so replace its value.
        request.date_time_string = lambda timestamp=None: date  # type: ignore[method-assign]  # noqa: ARG005
        body(keys, **more)(request)  # type: ignore[arg-type]

    with AuthServer(answer) as server:
        said = _diagnosis(_settings(server.origin))
    assert lines(said, "warn") == ["clock"]
    assert text in said


# --- the token


def _made(signer: Signer, **claims: object) -> Callable[[], str]:
    return lambda: signer.token("alice", **claims)


def test_a_good_token_is_accepted_from_standard_input(
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
    assert (
        'accepted: its user is "alice", whose tasks are at /api/alice/tasks; it is valid for 15 minutes' in done.stdout
    )
    assert token.rpartition(".")[2] not in done.stdout


def test_the_scopes_of_an_oauth_access_token_are_listed(signer: Signer, auth: AuthServer) -> None:
    token = signer.token("alice", {"typ": "at+jwt"}, scope="openid tasks:read")
    said = _diagnosis(_settings(auth.origin), token)
    assert lines(said, "fail") == []
    assert 'it is an OAuth access token with the scopes ["tasks:read"]' in said


def _refused(signer: Signer) -> dict[str, tuple[str, str]]:
    """Returns refused tokens, each with what the report says about it."""
    now = int(time.time())
    token = signer.token("alice")
    stranger = Signer("EdDSA", private_key("EdDSA"), signer.header, signer.claims)
    return {
        "expired": (signer.token("alice", exp=now - 600), "it expired 10 minutes ago -> get a new token"),
        "future": (signer.token("alice", iat=now + 600), "it is not valid yet"),
        "issuer": (signer.token("alice", iss="https://e.example"), 'its iss is "https://e.example", but must be "http'),
        "audience": (signer.token("alice", aud=[AUDIENCE]), f'its aud is ["{AUDIENCE}"], but must be "http'),
        "no audience": (signer.token("alice", aud=None), "its aud is absent, but must be"),
        "kid": (signer.token("alice", {"kid": "other"}), 'its kid is "other", but the key set has ["known"]'),
        "no kid": (signer.token("alice", {"kid": None}), 'its kid is absent, but the key set has ["known"]'),
        "signature": (stranger.token("alice"), 'its signature was not made with the key "known" -> get a new token'),
        "user": (signer.token("alice", sub=None), "its user_id is absent and its sub is absent"),
        "two users": (signer.token("alice", user_id="bob"), 'its user_id is "bob" and its sub is "alice"'),
        "algorithm": (signer.token("alice", {"alg": "ES256"}), 'its alg is "ES256", which does not fit its key'),
        "milliseconds": (signer.token("alice", exp=now * 1000), "its exp is not a number, or is too large"),
        "cookie": (signer.token("alice", {"typ": "better-auth.session-cache+jwt"}), "its typ is not JWT"),
        "hs256": (sign("alice"), 'its alg is "HS256", so it was signed with a shared secret'),
        "bearer": (f"Bearer {token}", "not three base64url parts -> send a token from"),
        "session": ("Zx8" * 10, "not three base64url parts -> send a token from"),
        "terminal": (signer.token("alice", iss="\x1b[2J"), 'its iss is "\\u001b[2J"'),
        "long": (signer.token("alice", iss="x" * 3000), "xxx..., but must be"),
    }


REFUSED = list(_refused(Signer("EdDSA", PRIVATE)))
AS_A_PROCESS = ["expired", "issuer", "audience", "kid", "signature", "user", "hs256", "session"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_token_is_explained_with_a_remedy(name: str, signer: Signer, auth: AuthServer) -> None:
    token, text = _refused(signer)[name]
    said = _diagnosis(_settings(auth.origin), token)
    assert lines(said, "fail") == ["token"]
    found = next(line[18:] for line in said.splitlines() if line.startswith("fail"))
    assert text in f"{found} -> {remedy_of(said, 'token')}"
    assert not any(part in said for part in token.split(".") if len(part) > 20)
    assert said.isascii()
    assert "\x1b" not in said


def test_the_installed_command_explains_a_refused_token(
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
        (
            sign("alice", "another-secret-of-thirty-two-bytes-or-more"),
            "set BETTER_AUTH_SECRET to the secret that signed the token",
        ),
        (sign("alice", aud=AUDIENCE), f'its aud is "{AUDIENCE}", but must be absent'),
        (Signer("EdDSA", PRIVATE).token("alice", aud=AUDIENCE), "unset BETTER_AUTH_SECRET and set BETTER_AUTH_URL"),
    ],
    ids=["secret", "audience", "mode"],
)
def test_with_a_secret_a_token_signed_differently_is_explained(
    token: str, text: str, migrated: str, tmp_path: Path
) -> None:
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
    assert f'accepted: its user is "{user.id}"' in done.stdout
    assert user.email not in done.stdout
