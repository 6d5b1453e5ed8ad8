"""The OpenAPI document, and the pages that show it, from files of this service alone."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from os import PathLike, stat_result
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from taskwell.http.error_responses import PROBLEM_JSON
from taskwell.http.openapi import HEADERS, SCHEMAS, reference

_ASSETS = "/docs/assets"

# ReDoc shows a logo from its maker's CDN. With this policy a browser asks no other host for anything.
_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'"
)


_DESCRIPTION = f"""\
Each request below `/api` carries `Authorization: Bearer <JWT>`, and the token's user is the one in the path.

Every failure has the same body: `detail` is for people, `error_code` for programs, `request_id` for the operator.
With `Accept: {PROBLEM_JSON}` it has the members of RFC 9457 besides.

`HEAD` works wherever `GET` does, and a slash at the end of a path makes no difference.
"""


class _Assets(StaticFiles):
    """Files that change only with a release; a day later, a browser asks whether one has. They come whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette answers a range that it cannot serve in a form of its own; any may be ignored (RFC 9110, section 14.2).
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response


def add(app: FastAPI) -> None:
    """Gives `app` the pages /docs and /redoc, and completes its OpenAPI document."""
    generate = app.openapi

    @cache
    def document() -> dict[str, Any]:
        return _completed(generate(), app.routes)

    app.openapi = document  # type: ignore[method-assign]

    async def swagger_ui(request: Request) -> Response:
        del request
        return _page(
            get_swagger_ui_html(
                openapi_url=str(app.openapi_url),
                title=app.title,
                swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
                swagger_css_url=f"{_ASSETS}/swagger-ui.css",
                swagger_favicon_url=f"{_ASSETS}/favicon.png",
                swagger_ui_parameters={"persistAuthorization": True, "validatorUrl": None},
            )
        )

    async def redoc(request: Request) -> Response:
        del request
        return _page(
            get_redoc_html(
                openapi_url=str(app.openapi_url),
                title=app.title,
                redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
                redoc_favicon_url=f"{_ASSETS}/favicon.png",
                with_google_fonts=False,
            )
        )

    with as_file(files("fastapi_offline") / "static") as directory:
        app.mount(_ASSETS, _Assets(directory=directory))
    app.add_route("/docs", swagger_ui, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)


def _page(page: HTMLResponse) -> Response:
    page.headers["Content-Security-Policy"] = _POLICY
    page.headers["Cache-Control"] = "no-cache"
    return page


def _completed(document: dict[str, Any], routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """FastAPI's document with what is said here, and nothing that no answer has."""
    document["info"]["description"] = _DESCRIPTION
    components = document["components"]
    # FastAPI's own body of a 422.
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"] |= SCHEMAS
    components["headers"] = HEADERS
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute):
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], route)
    return document


def _complete(operation: dict[str, Any], route: RouteContext) -> None:
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    parameters.sort(key=lambda parameter: _position(parameter, str(route.path_format)))
    responses = operation["responses"] = dict(sorted(operation["responses"].items()))
    for response in responses.values():
        response["headers"] = response.get("headers", {}) | {"X-Request-ID": reference("X-Request-ID")}
    # FastAPI leaves nulls out of its document, and with them members of the examples.
    for status, declared in route.responses.items():
        for media_type, content in declared.get("content", {}).items():
            responses[str(status)]["content"][media_type] |= content
    if route.body_field:
        for content in operation["requestBody"]["content"].values():
            content["examples"] = route.body_field.field_info.openapi_examples


def _position(parameter: dict[str, Any], path: str) -> int:
    """Parameters of the path in its order, the others behind them as declared."""
    return path.index(f"{{{parameter['name']}}}") if parameter["in"] == "path" else len(path)
