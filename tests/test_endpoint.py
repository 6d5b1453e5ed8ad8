"""The endpoint engine serves a route as FastAPI would, or refuses to start."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

import anyio
import httpx2
import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Cookie, Depends, FastAPI, Form, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

from taskwell.errors import AuthForbidden, NotFound, Problem
from taskwell.http.body import BodyReader
from taskwell.http.endpoint import Endpoint, EndpointEngine, Public, UnsupportedRouteError
from taskwell.http.error_responses import handle_error, handle_validation_error
from taskwell.http.limits import InFlight
from taskwell.state import FromState

Json = dict[str, Any]


class Item(TypedDict):
    name: str
    number: int


class NewItem(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    number: int = 0


async def current_user(request: Request) -> str:
    return request.headers.get("x-user", "nobody")


async def page_size(size: Annotated[int, Query(ge=1, le=9)] = 5) -> int:
    return size


class EverythingSupported:
    """Functions that use each thing that the engine supports."""

    router: APIRouter

    @staticmethod
    def build(route_class: type[APIRoute]) -> APIRouter:  # noqa: C901 - many small functions
        router = APIRouter(prefix="/things", route_class=route_class)

        @router.get("/{number}")
        async def get(
            number: int, user: Annotated[str, Depends(current_user)], place: Annotated[str, Depends(FromState("place"))]
        ) -> Item:
            return {"name": f"{user} in {place}", "number": number}

        @router.get("")
        async def search(
            kind: Literal["a", "b"],
            size: Annotated[int, Depends(page_size)],
            word: Annotated[str | None, Query(alias="q", max_length=3)] = None,
        ) -> Item:
            return {"name": f"{kind} {word}", "number": size}

        @router.post("", status_code=201)
        async def create(
            item: NewItem, response: Response, if_match: Annotated[str | None, Header(max_length=5)] = None
        ) -> Item:
            response.headers["X-Matched"] = str(if_match)
            if item.number:
                response.status_code = 202
            return {"name": item.name, "number": item.number}

        @router.put("/{number}", response_model=Item)
        async def replace(number: int, item: NewItem) -> Item | Response:
            if number == 304:
                return Response(status_code=304, headers={"ETag": '"1"'})
            return {"name": item.name, "number": number}

        @router.delete("/{number}", status_code=204, response_class=Response)
        async def delete(number: int) -> None:
            if number == 404:
                raise HTTPException(404)
            if number == 410:
                raise NotFound("It is gone.")

        @router.get("/{number}/stream")
        async def stream(number: int) -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                for part in range(number):
                    await asyncio.sleep(0)
                    yield b"%d\n" % part

            return StreamingResponse(parts(), 418, media_type="text/plain")

        return router


class App(FastAPI):
    """An application like Taskwell's: the engine in front, if there is one, and the errors of the one shape."""

    front: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "the-id", "place": "Oslo"}
        await (self.front or super().__call__)(scope, receive, send)


async def allow_all(request: Request) -> None:
    del request


def app_with(
    router: APIRouter,
    authenticate: Callable[[Request], Awaitable[None]] = allow_all,
    in_flight: InFlight | None = None,
) -> App:
    app = App(
        exception_handlers={
            Problem: handle_error,
            HTTPException: handle_error,
            RequestValidationError: handle_validation_error,
        },
    )
    app.include_router(router)
    app.front = EndpointEngine(
        super(App, app).__call__,
        app.routes,
        authenticate=authenticate,
        in_flight=InFlight(10) if in_flight is None else in_flight,
        bodies=BodyReader(seconds=1),
        on_write=lambda _owner: None,
    )
    return app


def responses(app: App, requests: list[tuple[str, str, Json]]) -> list[httpx2.Response]:
    async def main() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            return [await client.request(method, path, **options) for method, path, options in requests]

    return anyio.run(main)


VALID: list[tuple[str, str, Json]] = [
    ("GET", "/things/7", {"headers": {"X-User": "alice"}}),
    ("GET", "/things?kind=a", {}),
    ("GET", "/things?kind=b&q=abc&size=9", {}),
    ("GET", "/things?kind=b&q=", {}),
    ("POST", "/things", {"json": {"name": "a"}}),
    ("POST", "/things", {"json": {"name": "a", "number": 3}, "headers": {"If-Match": '"1"'}}),
    ("PUT", "/things/1", {"json": {"name": "a"}}),
    ("PUT", "/things/304", {"json": {"name": "a"}}),
    ("DELETE", "/things/1", {}),
    ("GET", "/things/3/stream", {}),
]
INVALID: list[tuple[str, str, Json]] = [
    ("GET", "/things/x", {}),
    ("GET", "/things", {}),
    ("GET", "/things?kind=c&size=10&q=abcd", {}),
    ("POST", "/things", {"json": {}}),
    ("POST", "/things", {"json": []}),
    ("POST", "/things", {"content": b"null", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/things", {"json": {"name": "", "number": "x"}, "headers": {"If-Match": '"12345"'}}),
    ("PUT", "/things/x", {"json": {"name": 5}}),
    ("DELETE", "/things/404", {}),
    ("DELETE", "/things/410", {}),
    ("POST", "/things/1", {}),
    ("GET", "/nothing", {}),
]


def comparable(response: httpx2.Response) -> tuple[int, dict[str, str], Any]:
    private = {"cache-control", "vary"}
    headers = {name: value for name, value in response.headers.items() if name not in private}
    if response.headers.get("content-type") != "application/json":
        return response.status_code, headers, response.content
    body = response.json()
    body.pop("timestamp", None)
    # FastAPI's own JSON has the same values, and now and then another length.
    headers.pop("content-length")
    return response.status_code, headers, body


def test_the_engine_responds_as_fastapi_does() -> None:
    with_engine = responses(app_with(EverythingSupported.build(Endpoint)), VALID + INVALID)
    without = responses(app_with(EverythingSupported.build(APIRoute)), VALID + INVALID)
    for request, one, other in zip(VALID + INVALID, with_engine, without, strict=True):
        assert comparable(one) == comparable(other), request
    assert [response.status_code for response in with_engine[: len(VALID)]] == [200] * 4 + [
        201,
        202,
        200,
        304,
        204,
        418,
    ]
    assert {response.status_code for response in with_engine[len(VALID) :]} == {422, 404, 405}


def test_every_response_of_a_route_is_private_unless_the_function_says_otherwise() -> None:
    router = APIRouter(route_class=Endpoint)

    @router.get("/returned")
    async def returned() -> Response:
        return Response(headers={"Cache-Control": "no-store"})

    @router.get("/set", response_class=Response)
    async def set_on_the_response(response: Response) -> None:
        response.headers["Vary"] = "Accept"

    for response in responses(app_with(EverythingSupported.build(Endpoint)), VALID):
        assert response.headers["cache-control"] == "private, no-cache"
        assert response.headers["vary"] == "Authorization"
    first, second = responses(app_with(router), [("GET", "/returned", {}), ("GET", "/set", {})])
    assert first.headers.get_list("cache-control") == ["no-store"]
    assert second.headers.get_list("vary") == ["Accept"]


def test_a_repeated_header_is_one_list() -> None:
    headers = httpx2.Headers([("If-Match", "a"), ("If-Match", "b")])
    request = ("POST", "/things", {"json": {"name": "a"}, "headers": headers})
    (response,) = responses(app_with(EverythingSupported.build(Endpoint)), [request])
    assert response.headers["x-matched"] == "a, b"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/things?kind=a&Size=2", "query Size: is not a parameter of this endpoint, which has kind, q and size"),
        ("/things/1?x=1", "query x: is not a parameter of this endpoint, which has none"),
        ("/things?kind=a&kind=a", "query kind: must be given once"),
        ("/things?%0a" + "x" * 99, r"query \n" + "x" * 63 + ": is not"),
    ],
)
def test_a_query_parameter_that_would_be_ignored_is_refused(path: str, detail: str) -> None:
    (response,) = responses(app_with(EverythingSupported.build(Endpoint)), [("GET", path, {})])
    assert response.status_code == 422
    assert response.json()["detail"].startswith(detail)
    assert response.json()["errors"][0]["loc"][0] == "query"


def test_nothing_is_read_or_run_for_a_request_that_is_not_authenticated() -> None:
    async def refuse(request: Request) -> None:
        raise AuthForbidden

    requests = [
        (method, path, {"content": b"{", "headers": {"Content-Type": "text/plain"}})
        for method in ("GET", "POST", "PUT", "DELETE", "BREW")
        for path in ("/things", "/things/x?y=1")
    ]
    app = app_with(EverythingSupported.build(Endpoint), authenticate=refuse)
    assert {response.status_code for response in responses(app, requests)} == {403}


def test_a_public_route_needs_no_token_and_ignores_the_query() -> None:
    async def refuse(request: Request) -> None:
        raise AuthForbidden

    router = APIRouter(route_class=Public)

    @router.get("/clock")
    async def clock() -> Item:
        return {"name": "noon", "number": 12}

    requests: list[tuple[str, str, Json]] = [("GET", "/clock?cache=1", {}), ("POST", "/clock", {})]
    read, refused = responses(app_with(router, authenticate=refuse, in_flight=InFlight(0)), requests)
    assert (read.status_code, read.json()) == (200, {"name": "noon", "number": 12})
    assert "cache-control" not in read.headers
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_a_public_route_that_takes_arguments_stops_the_start_by_name() -> None:
    router = APIRouter(route_class=Public)
    router.add_api_route("/clock", returns_an_item, methods=["GET"])
    router.add_api_route("/zone", depends_on_the_request, methods=["GET"])
    with pytest.raises(UnsupportedRouteError, match="GET /zone: is public and takes arguments"):
        app_with(router)


def test_a_stream_does_not_count_as_a_request_in_flight() -> None:
    router = APIRouter(route_class=Endpoint)
    in_flight = InFlight(1)
    counts: list[int] = []

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        counts.append(len(in_flight))

        async def parts() -> AsyncIterator[bytes]:
            counts.append(len(in_flight))
            yield b"part"

        return StreamingResponse(parts())

    (response,) = responses(app_with(router, in_flight=in_flight), [("GET", "/stream", {})])
    assert (response.text, counts) == ("part", [1, 0])


def test_the_body_limit_is_the_routes_own() -> None:
    router = APIRouter(route_class=Endpoint)

    async def length(item: Annotated[Json, Body()]) -> Item:
        return {"name": "", "number": len(item["text"])}

    router.add_api_route("/usual", length, methods=["POST"])
    router.add_api_route("/large", length, methods=["POST"], max_body_size=200_000)
    text = {"json": {"text": "x" * 100_000}}
    usual, large = responses(app_with(router), [("POST", "/usual", text), ("POST", "/large", text)])
    assert usual.status_code == 413
    assert large.json()["number"] == 100_000


# --- what is refused


async def of_the_request(request: Request) -> str:
    return request.method


async def nested(method: Annotated[str, Depends(of_the_request)]) -> str:
    return method


async def opened() -> AsyncIterator[int]:
    yield 1


def in_a_thread() -> int:
    return 1


class Model(BaseModel):
    name: str


class Holder(TypedDict):
    models: list[Model]


async def returns_a_model() -> Model:
    raise NotImplementedError


async def returns_models_inside() -> Holder:
    raise NotImplementedError


async def depends_on_the_request(method: Annotated[str, Depends(of_the_request)]) -> Item:
    raise NotImplementedError(method)


async def returns_an_item() -> Item:
    raise NotImplementedError


async def returns_nothing() -> None: ...


def plain() -> Item:
    raise NotImplementedError


async def streams_items() -> AsyncIterator[Item]:
    yield {"name": "", "number": 1}


async def takes_a_form(name: Annotated[str, Form()]) -> Item:
    raise NotImplementedError(name)


async def takes_a_cookie(name: Annotated[str, Cookie()]) -> Item:
    raise NotImplementedError(name)


async def takes_two_bodies(one: NewItem, other: NewItem) -> Item:
    raise NotImplementedError(one, other)


async def takes_an_embedded_body(one: Annotated[NewItem, Body(embed=True)]) -> Item:
    raise NotImplementedError(one)


async def takes_a_body_or_none(one: NewItem | None = None) -> Item:
    raise NotImplementedError(one)


async def takes_background_tasks(tasks: BackgroundTasks) -> Item:
    raise NotImplementedError(tasks)


async def takes_a_list(names: Annotated[list[str], Query()]) -> Item:
    raise NotImplementedError(names)


async def takes_a_query_model(names: Annotated[NewItem, Query()]) -> Item:
    raise NotImplementedError(names)


async def takes_a_made_default(names: Annotated[str, Query(default_factory=str)]) -> Item:
    raise NotImplementedError(names)


async def depends_on_a_nested_dependency(method: Annotated[str, Depends(nested)]) -> Item:
    raise NotImplementedError(method)


async def depends_on_a_yield(number: Annotated[int, Depends(opened)]) -> Item:
    raise NotImplementedError(number)


async def depends_on_a_plain_function(number: Annotated[int, Depends(in_a_thread)]) -> Item:
    raise NotImplementedError(number)


async def depends_twice(
    one: Annotated[str, Depends(of_the_request)], other: Annotated[str, Depends(of_the_request)]
) -> Item:
    raise NotImplementedError(one, other)


async def depends_on_a_body(item: Annotated[NewItem, Depends(lambda item: item)]) -> Item:
    raise NotImplementedError(item)


REFUSED: list[tuple[Callable[..., object], Json, str]] = [
    (returns_a_model, {}, "returns a pydantic model"),
    (returns_models_inside, {}, "returns a pydantic model"),
    (returns_an_item, {"response_model": NewItem}, "has a response_model that differs from its return type"),
    (returns_an_item, {"response_model": None}, "returns a value that its response model does not describe"),
    (returns_an_item, {"response_model_exclude_none": True}, "has response_model_exclude_none"),
    (returns_an_item, {"response_model_include": {"name"}}, "has response_model_include"),
    (returns_an_item, {"response_class": HTMLResponse}, "has the response class HTMLResponse"),
    (returns_an_item, {"dependencies": [Depends(of_the_request)]}, "has a dependency without a parameter"),
    (returns_nothing, {}, "has the response class JSONResponse"),
    (plain, {}, "is not an `async def` without `yield`"),
    (streams_items, {}, "is not an `async def` without `yield`"),
    (takes_a_form, {}, "reads a form"),
    (takes_a_cookie, {}, "uses cookie_params"),
    (takes_two_bodies, {}, "has more than one body parameter"),
    (takes_an_embedded_body, {}, "has more than one body parameter, or an embedded one"),
    (takes_a_body_or_none, {}, "has an optional body"),
    (takes_background_tasks, {}, "uses background_tasks_param_name"),
    (takes_a_list, {}, "its parameter `names` is not a single value"),
    (takes_a_query_model, {}, "its parameter `names` is not a single value"),
    (takes_a_made_default, {}, "its parameter `names` has a default factory"),
    (depends_on_a_nested_dependency, {}, "its dependency `method` has dependencies of its own"),
    (depends_on_a_yield, {}, "its dependency `number` is not an `async def` without `yield`"),
    (depends_on_a_plain_function, {}, "its dependency `number` is not an `async def` without `yield`"),
    (depends_twice, {}, "its dependency `one` is declared twice"),
]


@pytest.mark.parametrize(("function", "options", "reason"), REFUSED)
def test_a_route_that_the_engine_cannot_serve_stops_the_start_by_name(
    function: Callable[..., object], options: Json, reason: str
) -> None:
    router = APIRouter(prefix="/api", route_class=Endpoint)
    router.add_api_route("/things", function, methods=["POST"], **options)
    with pytest.raises(UnsupportedRouteError) as refusal:
        app_with(router)
    assert str(refusal.value).startswith("POST /api/things: " + reason)


def test_a_route_is_not_served_without_the_engine() -> None:
    app = App()
    app.include_router(EverythingSupported.build(Endpoint))
    with pytest.raises(UnsupportedRouteError, match="reached without the endpoint engine"):
        responses(app, [("GET", "/things/1", {})])
