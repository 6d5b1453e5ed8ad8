"""Finding the owner of a request: the Authorization header, the verified token, the user in the path, the scopes."""

import math
import time
from collections.abc import Iterable
from typing import Annotated

from fastapi import Path, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from taskwell.auth.keys import KeysUnavailable
from taskwell.auth.scopes import READ, WRITE
from taskwell.auth.tokens import Cause, Identity, InvalidToken, UserId, Verifier
from taskwell.errors import AuthForbidden, AuthInvalid, AuthMissing, AuthUnavailable, InsufficientScope, Problem
from taskwell.state import InState

_READING_METHODS = ("GET", "HEAD")

AUTH_PROBLEMS: list[type[Problem]] = [AuthMissing, AuthInvalid, AuthForbidden, AuthUnavailable]

RawHeaders = Iterable[tuple[bytes, bytes]]
"""Headers as ASGI passes them: names in lower case."""


async def identify(headers: RawHeaders, verifier: Verifier) -> Identity:
    """Returns the identity that the request's bearer token proves.

    Raises:
        AuthMissing: The request has no bearer token.
        AuthInvalid: The token is not accepted.
        AuthUnavailable: There are no keys to verify the token with.
    """
    try:
        token = _bearer_token(headers)
        # Most tokens are in the cache, and starting the coroutine that verifies would cost more than looking there first.
        return verifier.cached(token) or await verifier.verify(token)
    except InvalidToken as error:
        verifier.refusals[error.cause] += 1
        raise AuthInvalid(str(error)) from None
    except KeysUnavailable:
        raise AuthUnavailable(cause="no key set has been fetched since the start, or in the last 24 hours") from None


def require_same_user(owner: UserId, path_user: str) -> None:
    """Checks that the request's owner is the user in its path.

    Raises:
        AuthForbidden: They are different users.
    """
    if owner != path_user:
        raise AuthForbidden


def require_scope(scopes: frozenset[str], method: str) -> None:
    """Checks that an OAuth access token with `scopes` may be used with the HTTP method.

    Raises:
        InsufficientScope: The scope for the method is missing.
    """
    scope = READ if method in _READING_METHODS else WRITE
    if scope not in scopes:
        raise InsufficientScope(scope)


class Access:
    """A token that a request was admitted with, to check again while its response is being sent."""

    def __init__(self, verifier: Verifier, headers: RawHeaders) -> None:
        self._verifier = verifier
        self._token = _bearer_token(headers)

    async def seconds_left(self) -> float:
        """Returns the number of seconds until the token expires. It is 0 if the token is no longer accepted."""
        try:
            identity = await self._verifier.verify(self._token)
        except InvalidToken:
            return 0
        except KeysUnavailable:
            # An outage of the auth server does not end what it has permitted.
            return math.inf
        return max(identity.expires_at - time.time(), 0)


class Authenticator:
    """Admits requests whose token belongs to the user in the path, and stores that user as the owner."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def __call__(self, request: Request) -> None:
        """Stores the owner in `request.scope["state"]["owner"]`.

        Raises:
            AuthMissing: The request has no bearer token.
            AuthInvalid: The token is not accepted.
            AuthUnavailable: There are no keys to verify the token with.
            AuthForbidden: The token belongs to a different user than the one in the path, or lacks the scope.
        """
        scope = request.scope
        identity = await identify(scope["headers"], self._verifier)
        require_same_user(identity.user, scope["path_params"]["user_id"])
        if identity.scopes is not None:
            require_scope(identity.scopes, scope["method"])
        scope["state"]["owner"] = identity.user


def _bearer_token(headers: RawHeaders) -> str:
    """Returns the token from the Authorization header, of which there must be only one (RFC 6750, section 2.1)."""
    authorization = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                raise InvalidToken(Cause.MALFORMED, "more than one Authorization header")
            authorization = value
    if authorization is None:
        raise AuthMissing
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthMissing
    return token


class _Bearer(SecurityBase, InState):
    """Describes the authentication in OpenAPI, and injects the owner that `Authenticator` stored."""

    state_name = "owner"
    scheme_name = "bearer"
    model = HTTPBearer(
        bearerFormat="JWT",
        description="A JWT from the auth server, verified by the rules of RFC8725. It must belong to the user in the path. An OAuth access token (typ "
        f"at+jwt) also needs the scope {READ} for GET and HEAD, and {WRITE} for other methods.",
    )

    async def __call__(
        self,
        request: Request,
        user_id: Annotated[
            str,
            Path(
                min_length=1,
                max_length=255,
                description="The user's ID at the auth server.",
                examples=["user_abc123"],
            ),
        ],
    ) -> UserId:
        del user_id  # declared for OpenAPI; `Authenticator` has already compared it
        return UserId(request.scope["state"][self.state_name])


Owner = Annotated[UserId, Security(_Bearer())]
"""The authenticated user who makes the request. A request may only touch this user's rows."""
