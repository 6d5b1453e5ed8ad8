"""Bare ASGI on asyncpg: about the least work that Python can do for these responses, as an upper limit to compare with.

There is no framework: routing and validation are written by hand, and orjson writes the JSON. It runs Taskwell's own
statements on a stack of twenty connections, sends the same headers, and caches verified tokens as Taskwell does. It has
no log, no conditional requests, no limits and no helpful errors.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2s
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qs, quote
from uuid import uuid4

import asyncpg
import jwt
import orjson

CONNECTIONS = 20
TOKENS = 4096
TASK = ("id", "user_id", "title", "description", "complete", "created_at", "updated_at")
MAX_TITLE = 200
MAX_DESCRIPTION = 1000
MAX_LIMIT = 1000
PRIVATE = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, object, Headers]
Values = dict[str, Any]


class Refused(Exception):
    """The request ends with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


# --- tokens

_verified: dict[str, tuple[str, float]] = {}


def authenticate(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"authorization":
            return user_of(value.decode("latin-1").removeprefix("Bearer "))
    raise Refused(401)


def user_of(token: str) -> str:
    user, until = _verified.get(token, ("", 0))
    if time.time() < until:
        return user
    try:
        claims = jwt.decode(
            token,
            os.environ["JWT_KEY"],
            [os.environ["JWT_ALGORITHM"]],
            issuer=os.environ.get("JWT_ISSUER"),
            audience=os.environ.get("JWT_AUDIENCE"),
            options={"require": ["exp", "sub"]},
        )
    except jwt.InvalidTokenError:
        raise Refused(401) from None
    if len(_verified) == TOKENS:
        _verified.clear()
    _verified[token] = claims["sub"], claims["exp"]
    return str(claims["sub"])


# --- the database

# What the peers do without.
NO_CONDITIONS = {"creation_digest": None, "if_match": None, "if_none_match": None}

_idle: list[dict[str, Any]] = []
_free = asyncio.Semaphore(CONNECTIONS)
_given = json.loads(os.environ["STATEMENTS"])
_statements = {
    name: (_given[name][0], itemgetter(*_given[name][1]))
    for name in ("get_task", "list_tasks", "create_task", "change_task")
}


async def connect() -> None:
    for _ in range(CONNECTIONS):
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        _idle.append({name: await connection.prepare(sql) for name, (sql, _) in _statements.items()})


async def fetch(name: str, values: Values) -> list[asyncpg.Record]:
    arguments = _statements[name][1](NO_CONDITIONS | values)
    async with _free:
        prepared = _idle.pop()
        try:
            rows: list[asyncpg.Record] = await prepared[name].fetch(*arguments)
        finally:
            _idle.append(prepared)
    return rows


def members(row: asyncpg.Record) -> Values:
    return dict(zip(TASK, row, strict=False))


# --- the endpoints


async def list_tasks(values: Values, query: bytes) -> Answer:
    given = {name.decode(): int(value) for name, (value,) in parse_qs(query).items()}
    values |= {"limit": MAX_LIMIT, "offset": 0, **given}
    if not (1 <= values["limit"] <= MAX_LIMIT and values["offset"] >= 0):
        raise Refused(422)
    rows = await fetch("list_tasks", values)
    state = rows[0]
    etag = f'W/"{state["revision"]}-{state["epoch"]}-{blake2s(query, digest_size=8).hexdigest() if query else "all"}"'
    tasks = [members(row) for row in rows if row["id"] is not None]
    return 200, {"tasks": tasks, "count": state["count"]}, [*PRIVATE, (b"etag", etag.encode())]


async def create_task(values: Values, body: bytes) -> Answer:
    values |= {"description": None, "complete": False, **checked(body), "creation_key": str(uuid4())}
    if "title" not in values:
        raise Refused(422)
    (row,) = await fetch("create_task", values)
    location = f"/api/{quote(row['user_id'])}/tasks/{row['id']}"
    return 201, members(row), [*written(row), (b"location", location.encode())]


async def get_task(values: Values) -> Answer:
    row = await the_one("get_task", values)
    return 200, members(row), [*PRIVATE, (b"etag", b'"%d"' % row["revision"])]


async def patch_task(values: Values, body: bytes) -> Answer:
    changes = checked(body)
    values |= {"title": None, "description": None, "complete": None, **changes}
    row = await the_one("change_task", values | {"sets_description": "description" in changes})
    return 200, members(row), written(row)


async def the_one(name: str, values: Values) -> asyncpg.Record:
    rows = await fetch(name, values)
    if not rows or rows[0]["id"] is None:
        raise Refused(404)
    return rows[0]


def written(row: asyncpg.Record) -> Headers:
    return [*PRIVATE, (b"etag", b'"%d"' % row["revision"]), (b"taskwell-revision", b"%d" % row["revision"])]


def checked(body: bytes) -> Values:
    try:
        values: Values = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(400) from None
    if not isinstance(values, dict) or not values.keys() <= {"title", "description", "complete"}:
        raise Refused(422)
    if "title" in values:
        title = values["title"]
        if not isinstance(title, str) or not 1 <= len(title := title.strip()) <= MAX_TITLE:
            raise Refused(422)
        values["title"] = title
    description = values.get("description")
    if description is not None and not (isinstance(description, str) and len(description) <= MAX_DESCRIPTION):
        raise Refused(422)
    if not isinstance(values.get("complete", False), bool):
        raise Refused(422)
    return values


# --- HTTP


async def answer(scope: Values, receive: Callable[[], Awaitable[Values]]) -> Answer:
    path: str = scope["path"]
    if path == "/health":
        return 200, {"status": "ok"}, []
    match path.split("/"):
        case ["", "api", user, "tasks", *task_id] if len(task_id) <= 1:
            pass
        case _:
            raise Refused(404)
    if authenticate(scope["headers"]) != user:
        raise Refused(403)
    values: Values = {"owner": user}
    match scope["method"], task_id:
        case "GET", []:
            return await list_tasks(values, scope["query_string"])
        case "POST", []:
            return await create_task(values, await read(receive))
        case method, [digits] if digits.isdecimal():
            values["id"] = int(digits)
            if method == "GET":
                return await get_task(values)
            if method == "PATCH":
                return await patch_task(values, await read(receive))
    raise Refused(405)


async def read(receive: Callable[[], Awaitable[Values]]) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def app(
    scope: Values, receive: Callable[[], Awaitable[Values]], send: Callable[[Values], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await connect()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    try:
        status, content, headers = await answer(scope, receive)
    except Refused as refused:
        status, content, headers = refused.status, {"detail": "refused"}, []
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", uuid4().hex.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
