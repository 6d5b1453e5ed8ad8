"""The pages /docs and /redoc. Browsers load everything they need from this service."""

from importlib.resources import as_file, files
from os import PathLike, stat_result

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

_ASSETS = "/docs/assets"

# ReDoc has a logo on its vendor's CDN. This policy keeps browsers from fetching it, and anything else, from other hosts.
_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'"
)


class _Assets(StaticFiles):
    """Serves files that change only with a release. Browsers keep them for a day and then revalidate."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's response to an unsatisfiable range is not in the shape of our errors. A server may ignore Range
        # (RFC 9110, section 14.2).
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response


def add(app: FastAPI) -> None:
    """Adds the pages /docs and /redoc to `app`."""

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
