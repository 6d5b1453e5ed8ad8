"""From a request to its owner: the header, the verified token, the path's user."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Path, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from taskwell.auth.keys import KeysUnavailable
from taskwell.auth.tokens import Cause, InvalidToken, UserId, Verifier
from taskwell.errors import AuthForbidden, AuthInvalid, AuthMissing, AuthUnavailable, Problem

AUTH_PROBLEMS: list[type[Problem]] = [AuthMissing, AuthInvalid, AuthForbidden, AuthUnavailable]


async def authenticate(request: Request) -> None:
    """Lets a request through to its own user's resources, and remembers the user.

    Raises:
        AuthMissing: no bearer token was sent.
        AuthInvalid: the token is not accepted.
        AuthUnavailable: there are no keys to verify it with.
        AuthForbidden: it is for another user than the path's.
    """
    state: dict[str, Any] = request.scope["state"]
    verifier: Verifier = state["verifier"]
    try:
        user = await verifier.verify(_bearer_token(request.scope["headers"]))
    except InvalidToken as error:
        raise AuthInvalid(str(error)) from None
    except KeysUnavailable:
        raise AuthUnavailable(cause="no key set has arrived yet") from None
    if user != request.scope["path_params"]["user_id"]:
        raise AuthForbidden
    state["owner"] = user


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
