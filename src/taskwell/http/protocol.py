"""What is not HTTP: refused by the server's parser, before there is a request, in the one shape all the same."""

from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from taskwell.errors import MalformedRequest
from taskwell.http.outer import new_request_id
from taskwell.http.problems import problem_response


class HTTPProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with an answer of ours for bytes that it cannot parse (RFC 9112, section 2.2)."""

    def send_400_response(self, msg: str) -> None:
        """Answers with the one body and closes the connection, whose next byte has no meaning any more."""
        del msg
        answer = _refusal()
        headers = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(STATUS_LINE[400] + b"".join(lines) + b"\r\n" + bytes(answer.body))
        self.transport.close()


def _refusal() -> Response:
    request_id = new_request_id()
    scope: dict[str, Any] = {"type": "http", "headers": [], "state": {"request_id": request_id}}
    answer = problem_response(scope, MalformedRequest("This is not HTTP/1.1, or a method that is not known."))
    answer.headers["X-Request-ID"] = request_id
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
