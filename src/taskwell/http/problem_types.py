"""The kinds of errors, as clients see them: what each `error_code` means, and what to do about it.

The texts are only here. The pages under /problems show them, `title` in the body of an error comes from here, and a
test compares the table in docs/api.md with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taskwell.errors import (
    AuthForbidden,
    AuthInvalid,
    AuthMissing,
    AuthUnavailable,
    DatabaseError,
    Gone,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    RateLimited,
    RequestTimeout,
    UnsupportedMediaType,
)

PROBLEMS_PATH = "/problems"
"""The path of the list of all pages. Each page is one segment below it."""


@dataclass(frozen=True)
class ProblemType:
    """A kind of error. In its texts, backticks mark code."""

    title: str
    """A short name. It is the same whenever the error occurs (RFC 9457, section 3.1.3)."""
    meaning: str
    remedies: Mapping[int, str]
    """Remedies in one line, for each status. The example has the first status."""
    steps: Sequence[str]
    """Remedies in detail."""
    detail: str
    """The `detail` of the example."""
    members: Mapping[str, object] = field(default_factory=dict[str, object])
    """Further members of the example."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Headers that matter for this error, and what each is for."""

    @property
    def statuses(self) -> Sequence[int]:
        """The statuses that responses of this kind have."""
        return list(self.remedies)


def slug_of(code: str) -> str:
    """Returns the last path segment of the page about `code`."""
    return code.lower().replace("_", "-")


def type_path(code: str) -> str:
    """Returns the path of the page about `code`, without the prefix of a proxy."""
    return f"{PROBLEMS_PATH}/{slug_of(code)}"


_WAIT = "Wait for the number of seconds in `Retry-After`. Then send the same request again."
_BACK_OFF = (
    "If it fails again, double the wait each time and add a random delay, so that clients do not all retry at once."
)
_NOTHING_DONE = "The service did nothing, so you can send any request again, also a `POST`."
_CHECK_WRITES = (
    "The write may have happened. A `POST` with an `Idempotency-Key` can simply be sent again. Before you repeat any other"
    " write, read the task or the list."
)
_IN_BATCH = "After a batch, `errors` names the operation that failed. None of its operations was carried out."
_REPORT = "Report the `request_id` to the operator. It identifies the request in the service's log."

_RETRY_AFTER = "Response: the number of seconds to wait."
_AUTHORIZATION = "Request: `Bearer`, a space, and the token."
_CHALLENGE = "Response: the authentication scheme, and what was wrong with the token that was sent."
_IF_MATCH = "Request: the ETag of the version that you want to change."

_TASK = {
    "id": 1,
    "user_id": "user_abc123",
    "title": "Buy milk and bread",
    "description": None,
    "complete": False,
    "created_at": "2026-11-21T10:30:00.123456Z",
    "updated_at": "2026-11-21T11:15:00.123456Z",
}

PROBLEM_TYPES: Mapping[str, ProblemType] = {
    "VALIDATION_ERROR": ProblemType(
        title="The request is invalid",
        meaning="The service cannot use the request: it is malformed, or a value breaks a rule. Nothing was changed.",
        remedies={
            422: "correct what `errors` names",
            400: "send a JSON body; name at least one member in a PATCH; correct the header that `errors` names; use HTTP/1.1",
        },
        steps=[
            "Read `detail`. It names each broken rule in a sentence.",
            "In a program, read `errors`. `loc` says where the value is, and `msg` which rule it breaks.",
            "In a form, show each `msg` beside its field. With 400, `errors` can be missing.",
            "With 422, correct the JSON or the parameter. If it is the `Idempotency-Key`, send a new one.",
            "With 400, check that the body is valid JSON in UTF-8, and that a `PATCH` has at least one member.",
            "If a preflight request of a browser got 400, the operator must allow the page's origin.",
            "Do not send the same request again. It fails again.",
        ],
        detail="title: must have at least 1 character",
        members={
            "errors": [{"loc": ["body", "title"], "msg": "must have at least 1 character", "type": "string_too_short"}]
        },
    ),
    "AUTH_MISSING": ProblemType(
        title="No token was sent",
        meaning="The path needs a token, and the request has none. Nothing was done.",
        remedies={401: "send a token"},
        steps=[
            "Get a token from the auth server. With Better Auth, call `GET /api/auth/token`.",
            "Send it in the header `Authorization: Bearer <JWT>`. Cookies and query parameters do not count.",
            "If the header was sent, check whether a proxy removes it.",
        ],
        detail=AuthMissing.default_detail,
        headers={"Authorization": _AUTHORIZATION, "WWW-Authenticate": _CHALLENGE},
    ),
    "AUTH_INVALID": ProblemType(
        title="The token is not accepted",
        meaning="The token has expired, or the service cannot accept it for another reason. Nothing was done.",
        remedies={401: "get a new token"},
        steps=[
            "Get a new token from the auth server, and send the request once more.",
            "If it fails again, ask the user to sign in.",
            "Do not repeat it in a loop.",
            "To find the reason, give the `request_id` to the operator. Only the service's log has the reason.",
        ],
        detail=AuthInvalid.default_detail,
        headers={"Authorization": _AUTHORIZATION, "WWW-Authenticate": _CHALLENGE},
    ),
    "AUTH_FORBIDDEN": ProblemType(
        title="The token does not allow this",
        meaning="The token is valid. But it belongs to a different user than the one in the path, or it is an OAuth"
        " access token without the scope that the method needs. Nothing was done.",
        remedies={
            403: "use the token's own user in the path; with `WWW-Authenticate`, get an access token with the scope that"
            " it names"
        },
        steps=[
            "Put the token's user in the path: its claim `user_id`, or `sub` if there is no `user_id`.",
            "If the user id has special characters, percent-encode it as one path segment.",
            "If the response has `WWW-Authenticate`, get an access token with the scope that it names.",
            "`GET` and `HEAD` need the scope `tasks:read`, and the other methods `tasks:write`.",
            "Do not send the same request again. It fails again.",
        ],
        detail=AuthForbidden.default_detail,
        headers={"WWW-Authenticate": "Response: only if a scope is missing. It names the scope."},
    ),
    "NOT_FOUND": ProblemType(
        title="Not found",
        meaning="There is no such path, or you have no such task. You get the same response for a task that was deleted,"
        " that never existed, or that belongs to another user.",
        remedies={404: "check the path: there is no such route, or the task was deleted, or it never existed"},
        steps=[
            "If the path names a task, remove the task from your copy, and read the list again.",
            "Otherwise, compare the path with the API documentation. Do not forget the prefix of a proxy.",
            "If you sent a `DELETE` again after an error, the first one has probably deleted the task.",
            _IN_BATCH,
        ],
        detail=NotFound.default_detail,
    ),
    "METHOD_NOT_ALLOWED": ProblemType(
        title="Method not allowed",
        meaning="The path exists, but does not support the method. Nothing was done.",
        remedies={405: "use a method that the `Allow` header lists"},
        steps=[
            "Use a method that the `Allow` header lists.",
            "Check the path, too. `PUT`, `PATCH` and `DELETE` need the id of a task at its end. `POST` goes to the list.",
        ],
        detail=MethodNotAllowed.default_detail,
        headers={"Allow": "Response: the methods that the path supports."},
    ),
    "REQUEST_TIMEOUT": ProblemType(
        title="The request took too long to arrive",
        meaning="The service did not get the whole request body in time. It did nothing and closes the connection.",
        remedies={408: "send the request again; its body arrived too slowly"},
        steps=[
            "Send the request again, on a new connection.",
            "Check that `Content-Length` is the real length of the body. If it is too large, the service waits for more.",
            "Prepare the whole body before you begin to send the request.",
        ],
        detail=RequestTimeout.default_detail,
        headers={"Connection": "Response: `close`. The service closes the connection."},
    ),
    "GONE": ProblemType(
        title="Gone",
        meaning="The request refers to something that no longer exists. Either an earlier request with the same"
        " `Idempotency-Key` created a task that was deleted since, or a token of `/changes` is no longer valid. Such a token"
        " works for one user only. It ends when the operator restores a backup, or when the user's data is erased.",
        remedies={410: "send a new `Idempotency-Key`, or read the changes again from the start, without `since`"},
        steps=[
            "After a `POST` with an `Idempotency-Key`: if you want another task, send the request with a new key.",
            "After `/changes` with `since`: discard your copy, and ask again without `since`.",
            _IN_BATCH,
            "Do not send the same request again.",
        ],
        detail=Gone.default_detail,
        headers={"Idempotency-Key": "Request: names one creation, so that it can be repeated safely."},
    ),
    "PRECONDITION_FAILED": ProblemType(
        title="The condition is not met",
        meaning="Somebody changed the task after you read it, so its ETag is no longer the one in `If-Match`. The service"
        " did not apply your change, and so did not overwrite the other one. (Or you sent `If-None-Match`, and the task"
        " has one of these ETags.)",
        remedies={412: "apply your change to the task in `current`, and send it with the new `ETag` in `If-Match`"},
        steps=[
            "Take the task in `current`. It is the task as it is now; the header `ETag` belongs to it.",
            "Apply your change to it again. If both changes affect the same member, ask the user which one to keep.",
            "Send the request again, with the new ETag in `If-Match`. Be ready for another 412.",
            "Send the ETag exactly as you got it, with its quotation marks. A weak ETag (`W/`) never matches.",
            "Do not just leave out `If-Match`. Your request would overwrite the other change.",
            _IN_BATCH,
        ],
        detail=PreconditionFailed.default_detail,
        members={"current": _TASK},
        headers={"If-Match": _IF_MATCH, "ETag": "Response: the ETag of the task as it is now."},
    ),
    "PAYLOAD_TOO_LARGE": ProblemType(
        title="The request body is too large",
        meaning="The body is larger than the service accepts. Nothing was done.",
        remedies={413: "send at most 64 KiB, or 1 MiB to `/tasks/batch`"},
        steps=[
            "Send at most 64 KiB. A title has at most 200 characters, and a description at most 1000.",
            "A batch may have 1 MiB and 100 operations. Split a larger one.",
            "Do not send the same request again. It fails again.",
        ],
        detail=PayloadTooLarge.default_detail,
        headers={"Content-Length": "Request: the size of the body in bytes."},
    ),
    "UNSUPPORTED_MEDIA_TYPE": ProblemType(
        title="The request body is not declared as JSON",
        meaning="The request has a body, and its `Content-Type` is missing or is not JSON. Nothing was done.",
        remedies={415: "send `Content-Type: application/json`"},
        steps=[
            "Send the body as JSON, with the header `Content-Type: application/json`.",
            "Other types that end in `+json` work, too, such as `application/merge-patch+json`.",
            "In a browser, set the header yourself: `fetch` sends a string as `text/plain`.",
        ],
        detail=UnsupportedMediaType.default_detail,
        headers={"Content-Type": "Request: the media type of the body."},
    ),
    "PRECONDITION_REQUIRED": ProblemType(
        title="If-Match is required",
        meaning="The operator of this service requires `If-Match` on every `PUT`, `PATCH` and `DELETE` of a task. Without"
        " it, two clients could overwrite each other's changes. Nothing was changed.",
        remedies={428: "send `If-Match` with the `ETag` of the task that you read"},
        steps=[
            "Read the task with `GET`, and keep its `ETag`.",
            "Send the change with that ETag in `If-Match`, quotation marks included.",
            "If the version does not matter to you, send `If-Match: *`. It can overwrite another change.",
            "In a batch, send `if_match` with the `etag` of the task. `errors` names the operation that lacks it.",
        ],
        detail=PreconditionRequired.default_detail,
        headers={"If-Match": _IF_MATCH, "ETag": "Response to a `GET`: identifies this version of the task."},
    ),
    "RATE_LIMITED": ProblemType(
        title="Too many requests",
        meaning="You have sent more requests in a second, minute, hour or day than the operator of this service allows."
        " Or too many requests without a valid token came from your address; the policy is then `auth-failure`. Nothing"
        " was done.",
        remedies={429: "wait for `Retry-After` seconds; nothing was done"},
        steps=[
            _WAIT,
            _NOTHING_DONE,
            "If you try again before that, the request fails again.",
            "With the policy `auth-failure`, get a new token. Requests with a valid token succeed at once.",
            "Send fewer requests: keep what you have read, and send `If-None-Match`. A 304 does not count.",
        ],
        detail=RateLimited.default_detail,
        headers={
            "Retry-After": _RETRY_AFTER,
            "RateLimit": "Response: how many requests are left (`r`), and after how many seconds there are more (`t`).",
            "RateLimit-Policy": "Response: at most `q` requests in `w` seconds.",
        },
    ),
    "DATABASE_ERROR": ProblemType(
        title="The database failed",
        meaning="The service could not reach its database, or the database failed. A write may have happened, or not."
        " With 503, from `/health/ready`, the service is not ready for requests.",
        remedies={
            500: "wait for `Retry-After` seconds; before you repeat a write, check whether it happened",
            503: "only from `/health/ready`: the database is not ready",
        },
        steps=[
            "Wait for the number of seconds in `Retry-After`. A database that sleeps needs a moment to wake up.",
            "You can then send a `GET` or `HEAD` again.",
            _CHECK_WRITES,
            _BACK_OFF,
            f"If `detail` asks for the operator, waiting does not help. {_REPORT}",
        ],
        detail=DatabaseError.default_detail,
        headers={"Retry-After": _RETRY_AFTER},
    ),
    "INTERNAL_ERROR": ProblemType(
        title="Something went wrong",
        meaning="The service has a bug. You can do nothing about it. A write may have happened, or not.",
        remedies={500: "report the `request_id`"},
        steps=[_REPORT, _CHECK_WRITES, "Do not repeat the request in a loop."],
        detail=InternalError.default_detail,
        headers={"X-Request-ID": "Response: the same value as `request_id` in the body."},
    ),
    "AUTH_UNAVAILABLE": ProblemType(
        title="Tokens cannot be verified right now",
        meaning="The service could not get the keys that verify tokens from the auth server. Your token may be valid."
        " Nothing was done.",
        remedies={503: "wait for `Retry-After` seconds"},
        steps=[
            _WAIT,
            _BACK_OFF,
            "Keep the token, and do not sign the user out.",
            f"If it does not end after some minutes, the operator must act. {_REPORT}",
        ],
        detail=AuthUnavailable.default_detail,
        headers={"Retry-After": _RETRY_AFTER},
    ),
    "OVERLOADED": ProblemType(
        title="The service is busy",
        meaning="The service has more work than it can do in time, and so refused the request. Nothing was done.",
        remedies={503: "wait for `Retry-After` seconds; nothing was done"},
        steps=[_WAIT, _NOTHING_DONE, _BACK_OFF],
        detail=Overloaded.default_detail,
        headers={"Retry-After": _RETRY_AFTER},
    ),
}
"""Each kind of error by its `error_code`, in the order of the lowest status."""
