"""Traces by OpenTelemetry: a span for each request, and the set-up by OpenTelemetry's own environment variables.

The names follow its semantic conventions for HTTP servers. No span has a token, a query string (`q` is a user's text)
or a body. This module is imported only when traces are wanted, because its packages belong to an extra.
"""

import asyncio
import os
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult

import httpx2
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import ASGIApp, Receive, Scope, Send

import taskwell
from taskwell.telemetry.request_counts import METHODS, OTHER_METHOD
from taskwell.telemetry.requests import client_of, printable_path

MAX_USER_AGENT = 256

FIRST_SERVER_ERROR = 500


class Tracing:
    """The tracer of this process. On leaving its context, it sends the spans that are left."""

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=_resource())
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self._provider.get_tracer("taskwell", taskwell.__version__)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It waits for the collector.
        await asyncio.to_thread(self._provider.shutdown)

    @staticmethod
    async def propagate(request: httpx2.Request) -> None:
        """Adds the current trace to a request that the service sends."""
        propagate.inject(request.headers)


def _resource() -> Resource:
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({"service.version": taskwell.__version__} | ({} if named else {"service.name": "taskwell"}))


class TracedRequests:
    """Middleware that makes a span for each request, as a part of the trace that the client names."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracer = tracing.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            _method(scope),
            propagate.extract(headers),
            SpanKind.SERVER,
            _attributes(scope, headers),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            scope["state"]["trace_id"] = f"{span.get_span_context().trace_id:032x}"
            try:
                await self._app(scope, receive, send)
            finally:
                _complete(span, scope)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else OTHER_METHOD


def _attributes(scope: Scope, headers: dict[str, str]) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        http_attributes.HTTP_REQUEST_METHOD: _method(scope),
        url_attributes.URL_PATH: printable_path(scope["raw_path"]),
        url_attributes.URL_SCHEME: scope["scheme"],
        client_attributes.CLIENT_ADDRESS: client_of(scope),
        network_attributes.NETWORK_PROTOCOL_VERSION: scope["http_version"],
    }
    if host := _host(headers):
        attributes[server_attributes.SERVER_ADDRESS] = host
    if user_agent := headers.get("user-agent"):
        attributes[user_agent_attributes.USER_AGENT_ORIGINAL] = user_agent[:MAX_USER_AGENT]
    return attributes


def _host(headers: dict[str, str]) -> str | None:
    try:
        return SplitResult("", headers.get("host", ""), "", "", "").hostname
    except ValueError:
        return None


def _complete(span: Span, scope: Scope) -> None:
    """Adds what is known at the end. Only a failure of the service is an error: a 4xx is the client's."""
    state = scope["state"]
    status, route = state.get("status"), state.get("route")
    method = _method(scope)
    name = "HTTP" if method == OTHER_METHOD else method
    span.update_name(f"{name} {route}" if route else name)
    if route:
        span.set_attribute(http_attributes.HTTP_ROUTE, route)
    if status is not None:
        span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, status)
        if status >= FIRST_SERVER_ERROR:
            span.set_attribute(error_attributes.ERROR_TYPE, state.get("error_code") or str(status))
            span.set_status(StatusCode.ERROR)
