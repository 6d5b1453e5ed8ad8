"""Whether traces are wanted, by the environment variables of OpenTelemetry.

The extra alone does not switch traces on: without a collector, each process would try to reach one on its own machine.
"""

import logging
from collections.abc import Mapping

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")

logger = logging.getLogger(__name__)


def traces_are_wanted(environment: Mapping[str, str]) -> bool:
    """Returns whether to make traces. Warns if they cannot be made as they are wanted."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if exporter != "otlp" and not any(environment.get(name, "").strip() for name in ENDPOINTS):
        return False
    if any(environment.get(name, "http/protobuf") != "http/protobuf" for name in _PROTOCOLS):
        logger.warning("traces are sent as http/protobuf, the only protocol that taskwell[otel] installs")
    return True
