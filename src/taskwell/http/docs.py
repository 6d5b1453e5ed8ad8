"""The OpenAPI document and the pages that show it. Browsers load everything they need from this service."""

from importlib.resources import as_file, files
from os import PathLike, stat_result
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from taskwell.http.problem_types import PROBLEMS_PATH
from taskwell.http.segments import public_path

_ASSETS = "/docs/assets"
_REDOC = "redoc.standalone.js"
_INDEX = {"docs": "docs", "redoc": "redoc", "openapi": "openapi.json", "problems": "problems", "health": "health"}
_REVALIDATE = {"Cache-Control": "no-cache"}

# Browsers load nothing from other hosts, whatever the files of a later release contain.
_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'"
)


class _Assets(StaticFiles):
    """Serves files that change only with a release. Browsers keep them for a day and then revalidate."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory)
        # ReDoc shows its vendor's logo, from the vendor's CDN. Without an image it shows only the name.
        self._redoc = (directory / _REDOC).read_bytes().replace(b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's response to an unsatisfiable range does not have the body of our errors. A server may ignore Range
        # (RFC 9110, section 14.2).
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=86400"
        if isinstance(response, FileResponse) and Path(full_path).name == _REDOC:
            headers = {name: response.headers[name] for name in ("Cache-Control", "ETag")}
            return Response(self._redoc, headers=headers, media_type="text/javascript")
        return response


def add(app: FastAPI) -> None:
    """Adds /openapi.json, the pages /docs and /redoc that show it, and `GET /`, which links to them.

    All addresses in the responses begin with the prefix of the proxy.
    """

    async def index(request: Request) -> Response:
        root = _root(request)
        pages = {name: f"{root}/{path}" for name, path in _INDEX.items()}
        return JSONResponse({"name": app.title, "version": app.version, **pages}, headers=_REVALIDATE)

    async def document(request: Request) -> Response:
        root = _root(request)
        generated = app.openapi()
        # The only link to the service in the text.
        description = generated["info"]["description"].replace(f"]({PROBLEMS_PATH})", f"]({root}{PROBLEMS_PATH})")
        changes = {"servers": [{"url": root or "/"}], "info": generated["info"] | {"description": description}}
        return JSONResponse(generated | changes, headers=_REVALIDATE)

    async def swagger_ui(request: Request) -> Response:
        root = _root(request)
        return _page(
            get_swagger_ui_html(
                openapi_url=f"{root}/openapi.json",
                title=app.title,
                swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
                swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
                swagger_favicon_url=f"{root}{_ASSETS}/favicon.png",
                swagger_ui_parameters={"persistAuthorization": True, "validatorUrl": None},
            )
        )

    async def redoc(request: Request) -> Response:
        root = _root(request)
        return _page(
            get_redoc_html(
                openapi_url=f"{root}/openapi.json",
                title=app.title,
                redoc_js_url=f"{root}{_ASSETS}/{_REDOC}",
                redoc_favicon_url=f"{root}{_ASSETS}/favicon.png",
                with_google_fonts=False,
            )
        )

    with as_file(files("fastapi_offline") / "static") as directory:
        app.mount(_ASSETS, _Assets(directory=directory))
    app.add_route("/", index, include_in_schema=False)
    app.add_route("/openapi.json", document, include_in_schema=False)
    app.add_route("/docs", swagger_ui, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)


def _root(request: Request) -> str:
    return public_path(request.scope, "")


def _page(page: HTMLResponse) -> Response:
    page.headers.update({"Content-Security-Policy": _POLICY, **_REVALIDATE})
    return page
