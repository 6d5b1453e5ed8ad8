"""Scopes of OAuth access tokens (RFC 9068).

An access token acts for another application, so it may do only what its scopes allow. A token of the user's own session
has no scopes and may do everything.
"""

from collections.abc import Mapping
from typing import cast

READ = "tasks:read"
WRITE = "tasks:write"

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type, not a secret

_SCOPES = frozenset({READ, WRITE})


def granted_scopes(token_type: str | None, claims: Mapping[str, object]) -> frozenset[str] | None:
    """Returns those of our scopes that an access token has, or None if the token is not an access token.

    The scopes are in the claim `scope`, or else in `scp`: a string with spaces between them (RFC 6749, section 3.3) or
    a list. Anything else grants nothing.
    """
    if token_type != ACCESS_TOKEN_TYPE and not _is_untyped_access_token(claims):
        return None
    scopes = claims["scope"] if "scope" in claims else claims.get("scp")
    if isinstance(scopes, str):
        return _SCOPES.intersection(scopes.split(" "))
    if isinstance(scopes, list):
        return frozenset(scope for scope in cast("list[object]", scopes) if isinstance(scope, str)) & _SCOPES
    return frozenset()


def _is_untyped_access_token(claims: Mapping[str, object]) -> bool:
    """Returns whether the token is an access token of a server that does not set `typ`, such as Better Auth before 1.7.

    Its access tokens name the client in `azp` and have a `scope`. The same keys sign them and the tokens of sessions.
    """
    return not claims.keys().isdisjoint(("azp", "client_id")) and not claims.keys().isdisjoint(("scope", "scp"))
