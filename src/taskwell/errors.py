"""Every way in which a request can fail, and the one body that says so.

    Problem
    ├── InvalidRequest           VALIDATION_ERROR
    │   ├── MalformedRequest     400
    │   └── UnprocessableRequest 422
    ├── AuthMissing              401  AUTH_MISSING
    ├── AuthInvalid              401  AUTH_INVALID
    ├── AuthForbidden            403  AUTH_FORBIDDEN
    │   └── InsufficientScope    403
    ├── NotFound                 404  NOT_FOUND
    ├── MethodNotAllowed         405  METHOD_NOT_ALLOWED
    ├── RequestTimeout           408  REQUEST_TIMEOUT
    ├── PayloadTooLarge          413  PAYLOAD_TOO_LARGE
    ├── UnsupportedMediaType     415  UNSUPPORTED_MEDIA_TYPE
    ├── DatabaseError            500  DATABASE_ERROR
    │   ├── NotMigrated          500
    │   └── NotReady             503
    ├── InternalError            500  INTERNAL_ERROR
    ├── AuthUnavailable          503  AUTH_UNAVAILABLE
    └── Overloaded               503  OVERLOADED
        └── LoadShed             503

Code that meets a failure raises one of these and goes no further; nothing between it and the
handlers in `taskwell.http.problems` catches it.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypedDict

NO_FIELDS = "no_fields"
"""The type of pydantic's error for a PATCH without a field. It is answered with 400; every other one with 422."""


class SettingsError(ValueError):
    """The settings cannot be used. The message has one line for each reason, with the remedy, and no secret."""


class Violation(TypedDict):
    """One rule that the input broke: where, in words, and pydantic's name of the rule. Never the value."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Exception):
    """A failure with an answer.

    `detail` is for the client and says what to do; `cause` is for the log alone.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    default_detail: ClassVar[str]
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, detail: str | None = None, *, cause: str | None = None) -> None:
        self.detail = detail or self.default_detail
        self.cause = cause
        super().__init__(self.detail)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that belong to this answer."""
        return {"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {}

    @property
    def members(self) -> Mapping[str, object]:
        """Members of the body besides the four that every problem has."""
        return {}


class InvalidRequest(Problem):
    """The input breaks a rule; `violations` names each one."""

    code = "VALIDATION_ERROR"

    def __init__(self, detail: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(detail)
        self.violations = violations

    @property
    def members(self) -> Mapping[str, object]:
        return {"errors": self.violations} if self.violations else {}


class MalformedRequest(InvalidRequest):
    """The body is not JSON, or asks for nothing."""

    status = 400
    default_detail = "The request is malformed."


class UnprocessableRequest(InvalidRequest):
    """The body is JSON of the wrong shape, or a parameter is out of its range."""

    status = 422
    default_detail = "The request breaks a rule."


class AuthMissing(Problem):
    """No bearer token was sent. The challenge carries no error code then: RFC 6750, section 3.1."""

    status = 401
    code = "AUTH_MISSING"
    default_detail = "Send a token: Authorization: Bearer <JWT>."

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class AuthInvalid(Problem):
    """The token is not accepted. One wording for every cause; the cause is in the log."""

    status = 401
    code = "AUTH_INVALID"
    default_detail = "The token is not valid or has expired. Sign in again and send a new one."

    def __init__(self, cause: str) -> None:
        super().__init__(cause=cause)

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            "WWW-Authenticate": 'Bearer error="invalid_token", '
            'error_description="The token is not valid or has expired"'
        }


class AuthForbidden(Problem):
    """The token is good, but for another user than the path's."""

    status = 403
    code = "AUTH_FORBIDDEN"
    default_detail = "The token belongs to another user than the one in the path."


class InsufficientScope(AuthForbidden):
    """The OAuth access token lacks the scope that the method needs: RFC 6750, section 3.1."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"The access token needs the scope {scope}.")
        self.scope = scope

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self.scope}"'}


class NotFound(Problem):
    """No such task among the user's own, or no such route."""

    status = 404
    code = "NOT_FOUND"
    default_detail = "There is no such resource."


class MethodNotAllowed(Problem):
    """The resource exists, the method does not. `allow` holds all methods of the path: RFC 9110, section 15.5.6."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    default_detail = "This resource does not support the method; the Allow header names those it does."

    def __init__(self, allow: Sequence[str] = ()) -> None:
        super().__init__()
        self.allow = allow

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": ", ".join(self.allow)}


class RequestTimeout(Problem):
    """The body did not arrive in time."""

    status = 408
    code = "REQUEST_TIMEOUT"
    default_detail = "The request's body did not arrive in time. Send it again."

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Connection": "close"}


class PayloadTooLarge(Problem):
    """The body is larger than any valid one."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"
    default_detail = "The request's body is too large."


class UnsupportedMediaType(Problem):
    """The body is not declared as JSON."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"
    default_detail = "Send JSON, declared by Content-Type: application/json."


class DatabaseError(Problem):
    """The database failed or cannot be reached. A write may or may not have happened."""

    status = 500
    code = "DATABASE_ERROR"
    default_detail = "The database cannot be reached. Try again in a moment."
    retry_after_seconds = 1


class NotMigrated(DatabaseError):
    """The database has another schema than this version's, or none."""

    default_detail = "The database's schema is not this version's. Run: taskwell migrate"


class NotReady(DatabaseError):
    """A part that the service needs is missing; the detail says which."""

    status = 503
    default_detail = "database: cannot be reached."


class InternalError(Problem):
    """A bug. Everything about it is in the log under the request's id, nothing in the body."""

    status = 500
    code = "INTERNAL_ERROR"
    default_detail = "Something went wrong here. Report the request_id to the operator."


class AuthUnavailable(Problem):
    """The keys that tokens are verified with cannot be had, and none are cached."""

    status = 503
    code = "AUTH_UNAVAILABLE"
    default_detail = "Tokens cannot be verified at the moment. Try again in a moment."
    retry_after_seconds = 5


class Overloaded(Problem):
    """More work than the service will queue. Nothing was done."""

    status = 503
    code = "OVERLOADED"
    default_detail = "The service is busy. Try again in a moment."
    retry_after_seconds = 1


class LoadShed(Overloaded):
    """The maximum number of requests is in flight. Thousands may be shed in a second, so they share a line of the log."""
