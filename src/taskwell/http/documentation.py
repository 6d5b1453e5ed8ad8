"""The OpenAPI document, and the pages that show it, from files of this service alone."""

from importlib.resources import as_file, files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from taskwell.http.problems import PROBLEM_DETAILS_SCHEMA, PROBLEM_SCHEMA, VIOLATION_SCHEMA

_ASSETS = "/docs/assets"

# ReDoc shows a logo from its maker's CDN. With this policy a browser asks no other host for anything.
_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'"
)


def add(app: FastAPI) -> None:
    """Gives `app` the pages /docs and /redoc, and completes its OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        return _completed(generate())

    app.openapi = openapi  # type: ignore[method-assign]

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
        app.mount(_ASSETS, StaticFiles(directory=directory))
    app.add_route("/docs", swagger_ui, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)


def _page(page: HTMLResponse) -> Response:
    page.headers["Content-Security-Policy"] = _POLICY
    page.headers["Cache-Control"] = "no-cache"
    return page


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= {"Problem": PROBLEM_SCHEMA, "ProblemDetails": PROBLEM_DETAILS_SCHEMA, "Violation": VIOLATION_SCHEMA}
    return document
