"""From a request to its owner: the header, the verified token, the path's user."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import Path, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from taskwell.auth.keys import KeysUnavailable
from taskwell.auth.tokens import Cause, InvalidToken, UserId, Verifier
from taskwell.errors import AuthForbidden, AuthInvalid, AuthMissing, AuthUnavailable, Problem

AUTH_PROBLEMS: list[type[Problem]] = [AuthMissing, AuthInvalid, AuthForbidden, AuthUnavailable]


class Authenticator:
    """Lets a request through to its own user's resources, and remembers the owner in the request's state."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def __call__(self, request: Request) -> None:
        """Authenticates a request.

        Raises:
            AuthMissing: no bearer token was sent.
            AuthInvalid: the token is not accepted.
            AuthUnavailable: there are no keys to verify it with.
            AuthForbidden: the token belongs to another user than the one in the path.
        """
        owner = await identify(request.scope["headers"], self._verifier)
        require_same_user(owner, request.scope["path_params"]["user_id"])
        request.scope["state"]["owner"] = owner


async def identify(headers: Iterable[tuple[bytes, bytes]], verifier: Verifier) -> UserId:
    """Returns the user of the request's bearer token.

    Raises:
        AuthMissing: no bearer token was sent.
        AuthInvalid: the token is not accepted.
        AuthUnavailable: there are no keys to verify it with.
    """
    try:
        return await verifier.verify(_bearer_token(headers))
    except InvalidToken as error:
        raise AuthInvalid(str(error)) from None
    except KeysUnavailable:
        raise AuthUnavailable(cause="no key set has arrived yet") from None


def require_same_user(owner: UserId, path_user: str) -> None:
    """Refuses a request to another user's path.

    Raises:
        AuthForbidden: the path names another user.
    """
    if owner != path_user:
        raise AuthForbidden


def _bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token of the one Authorization header (RFC 6750, section 2.1)."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) > 1:
        raise InvalidToken(Cause.MALFORMED, "more than one Authorization header")
    scheme, _, token = (values[0].decode("latin-1") if values else "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthMissing
    return token


class _Bearer(SecurityBase):
    """What OpenAPI says of `authenticate`, and the way to its result."""

    scheme_name = "bearer"
    model = HTTPBearer(bearerFormat="JWT", description="A token of the auth server; its user is the path's.")

    async def __call__(
        self,
        request: Request,
        user_id: Annotated[
            str,
            Path(
                min_length=1,
                max_length=255,
                description="The user's identifier at the auth server.",
                examples=["user_abc123"],
            ),
        ],
    ) -> UserId:
        del user_id  # declared for the document; `authenticate` has compared it
        return UserId(request.scope["state"]["owner"])


Owner = Annotated[UserId, Security(_Bearer())]
"""The user who asks, verified, and the only one whose rows the request may touch."""
