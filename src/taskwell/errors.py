"""Every way a request can fail, and the error that the client sees.

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
    ├── Gone                     410  GONE
    ├── PreconditionFailed       412  PRECONDITION_FAILED
    ├── PayloadTooLarge          413  PAYLOAD_TOO_LARGE
    ├── UnsupportedMediaType     415  UNSUPPORTED_MEDIA_TYPE
    ├── PreconditionRequired     428  PRECONDITION_REQUIRED
    ├── RateLimited              429  RATE_LIMITED
    ├── DatabaseError            500  DATABASE_ERROR
    │   ├── DatabaseRefused      500
    │   ├── NotMigrated          500
    │   └── NotReady             503
    ├── InternalError            500  INTERNAL_ERROR
    ├── AuthUnavailable          503  AUTH_UNAVAILABLE
    └── Overloaded               503  OVERLOADED
        └── LoadShed             503

Code that finds a failure raises one of these. Nothing catches it before the handlers in
`taskwell.http.error_responses`, which turn it into the response.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, TypedDict

TRY_AGAIN = "Try again in a moment."
ASK_OPERATOR = "Ask the operator to correct the service's set-up."
NO_FIELDS = "no_fields"
MALFORMED_HEADER = "malformed_header"
MALFORMED = {NO_FIELDS, MALFORMED_HEADER}
"""The pydantic error types that become status 400: a PATCH without fields, and a header with a syntax error.

All other validation errors become 422.
"""


class SettingsError(ValueError):
    """The settings cannot be used. The message has one line for each reason, with the remedy, and contains no secret."""


class Violation(TypedDict):
    """One validation error: the place, a message, and pydantic's error type. Never the value."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Exception):
    """A failure that becomes an error response.

    `detail` tells the client what to do. `cause` only goes to the log. `violations` are the places in the request that
    caused the failure, if it names them.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    default_detail: ClassVar[str]
    retry_after_seconds: ClassVar[int | None] = None
    violations: Sequence[Violation] = ()

    def __init__(self, detail: str | None = None, *, cause: str | None = None) -> None:
        self.detail = detail or self.default_detail
        self.cause = cause
        super().__init__(self.detail)

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers of this error."""
        return {"Retry-After": str(self.retry_after_seconds)} if self.retry_after_seconds else {}

    @property
    def members(self) -> Mapping[str, object]:
        """Body members in addition to the four that every error has."""
        return {"errors": self.violations} if self.violations else {}


class InvalidRequest(Problem):
    """The input is invalid; `violations` lists the first 20 reasons."""

    code = "VALIDATION_ERROR"

    def __init__(self, detail: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(detail)
        self.violations = violations


class MalformedRequest(InvalidRequest):
    """The request or a header has a syntax error.

    The body is not JSON, a PATCH has no fields, or a CORS preflight is refused: these count as syntax errors, too.
    """

    status = 400
    default_detail = "The request is malformed."


class UnprocessableRequest(InvalidRequest):
    """The body is JSON of the wrong shape, or a parameter is invalid."""

    status = 422
    default_detail = "The request is invalid."


class AuthMissing(Problem):
    """The request has no bearer token. The challenge then has no error code (RFC 6750, section 3.1)."""

    status = 401
    code = "AUTH_MISSING"
    default_detail = "Send a token: Authorization: Bearer <JWT>."

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class AuthInvalid(Problem):
    """The token is not accepted. The client sees the same text for every cause; the log has the cause."""

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
    """The token is valid, but belongs to a different user than the one in the path."""

    status = 403
    code = "AUTH_FORBIDDEN"
    default_detail = "The token belongs to a different user than the one in the path."


class InsufficientScope(AuthForbidden):
    """The OAuth access token lacks the scope that the method needs: RFC 6750, section 3.1."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"The access token needs the scope {scope}.")
        self.scope = scope

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self.scope}"'}


class NotFound(Problem):
    """The user has no such task, or there is no such route."""

    status = 404
    code = "NOT_FOUND"
    default_detail = "There is no such resource."


class MethodNotAllowed(Problem):
    """The path does not support the method. `allow` lists those it supports (RFC 9110, section 15.5.6)."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    default_detail = "This resource does not support the method. The Allow header lists the methods that it supports."

    def __init__(self, allow: Sequence[str] = ()) -> None:
        super().__init__()
        self.allow = allow

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": ", ".join(self.allow)}


class RequestTimeout(Problem):
    """The request body did not arrive in time."""

    status = 408
    code = "REQUEST_TIMEOUT"
    default_detail = "The request body did not arrive in time. Send the request again."

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Connection": "close"}


class Gone(Problem):
    """The request refers to something that no longer exists: the task of its key, or the history of its token."""

    status = 410
    code = "GONE"
    default_detail = "The task that this Idempotency-Key created was deleted. Send a new key to create another one."


class PreconditionFailed(Problem):
    """The task does not meet `If-Match` or `If-None-Match`. `current` is the task as it is now, and `etag` is its ETag."""

    status = 412
    code = "PRECONDITION_FAILED"
    default_detail = "The task does not meet the condition in If-Match or If-None-Match. The member current and the header ETag show it as it is."

    def __init__(self, current: Mapping[str, object], etag: str) -> None:
        super().__init__()
        self.current = current
        self.etag = etag

    @property
    def headers(self) -> Mapping[str, str]:
        return {"ETag": self.etag}

    @property
    def members(self) -> Mapping[str, object]:
        return {**super().members, "current": self.current}


class PayloadTooLarge(Problem):
    """The body is larger than any valid body."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"
    default_detail = "The request body is too large."


class UnsupportedMediaType(Problem):
    """The body is not declared as JSON."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"
    default_detail = "Send JSON with the header Content-Type: application/json."


class PreconditionRequired(Problem):
    """The operator demands `If-Match` on every change and deletion of a task (RFC 6585, section 3)."""

    status = 428
    code = "PRECONDITION_REQUIRED"
    default_detail = "Send If-Match with the ETag of the task that you read, or If-Match: * to accept any version."


class RateLimited(Problem):
    """The user has sent too many requests, or too many requests without a valid token came from the client's address.

    `headers` are `Retry-After` and those of draft-ietf-httpapi-ratelimit-headers. The default headers are only for the
    example in the OpenAPI document.
    """

    status = 429
    code = "RATE_LIMITED"
    default_detail = "Too many requests. Wait for the number of seconds in Retry-After."

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] = MappingProxyType(
            {"Retry-After": "1", "RateLimit-Policy": '"user";q=200;w=1', "RateLimit": '"user";r=0;t=1'}
        ),
    ) -> None:
        super().__init__(detail)
        self._headers = headers

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers


class DatabaseError(Problem):
    """The database failed or cannot be reached. A write may have happened."""

    status = 500
    code = "DATABASE_ERROR"
    default_detail = f"The database cannot be reached. {TRY_AGAIN}"
    retry_after_seconds = 1


class DatabaseRefused(DatabaseError):
    """The database is reachable, but does not accept the operation: a missing right, or a read-only server or file."""

    default_detail = f"The database refused the operation. {ASK_OPERATOR}"


class NotMigrated(DatabaseError):
    """The database has a different schema than this version requires, or none."""

    default_detail = "The database schema does not match this version of Taskwell. Run: taskwell migrate"


class NotReady(DatabaseError):
    """The service is not ready; the detail says which part is missing."""

    status = 503
    default_detail = f"database: {DatabaseError.default_detail}"


class InternalError(Problem):
    """A bug. The log has the details under the request id; the body has none."""

    status = 500
    code = "INTERNAL_ERROR"
    default_detail = "Something went wrong. Report the request_id to the operator."


class AuthUnavailable(Problem):
    """The keys that verify tokens cannot be fetched, and none are cached."""

    status = 503
    code = "AUTH_UNAVAILABLE"
    default_detail = f"Tokens cannot be verified right now. {TRY_AGAIN}"
    retry_after_seconds = 5


class Overloaded(Problem):
    """There is more work than the service queues. Nothing was done."""

    status = 503
    code = "OVERLOADED"
    default_detail = f"The service is busy. {TRY_AGAIN}"
    retry_after_seconds = 1


class LoadShed(Overloaded):
    """The maximum number of requests is in flight. Thousands may be shed in a second, so they share a line of the log."""
