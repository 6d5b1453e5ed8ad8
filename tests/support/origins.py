"""A page, a real Better Auth and the real service, on three hosts of one site, as in production."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.better_auth import BetterAuth
from support.browser import serving_pages
from support.service import Service, running


@dataclass
class Origins:
    """The URLs that a page uses."""

    app: str
    auth: str
    api: str
    service: Service


@contextmanager
def three_origins(folder: Path, pages: Path, database_url: str) -> Iterator[Origins]:
    """Serves the files of `pages`, Better Auth from `folder`, and the service."""
    auth = BetterAuth(folder)
    auth_origin = f"http://auth.taskwell.test:{auth.port}"
    with serving_pages(pages) as port:
        app = f"http://app.taskwell.test:{port}"
        auth.environment |= {"BETTER_AUTH_URL": auth_origin, "BETTER_AUTH_TRUSTED_ORIGINS": app}
        settings: dict[str, Any] = {
            "JWT_JWKS_URL": f"{auth.url}/api/auth/jwks",
            "JWT_ISSUER": auth_origin,
            "JWT_AUDIENCE": auth_origin,
            "BETTER_AUTH_SECRET": "",
            "TASKWELL_CORS_ORIGINS": app,
        }
        with auth, running("sqlite", DATABASE_URL=database_url, **settings) as service:
            api = f"http://api.taskwell.test:{service.http.base_url.port}"
            yield Origins(app, f"{auth_origin}/api/auth", api, service)
