"""The service responds correctly to any requests, one at a time or concurrent.

The tests send random requests to the service and compare the responses with a model of it. Concurrent requests must
have an order in which the model explains every response. `test_model_workers` does the same with two processes.
"""

import pytest

from support.exploration import explore
from support.service import Service

# TLS changes nothing here.
ENGINES = ["sqlite", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("postgres", "postgres-pooler"))]


@pytest.mark.parametrize("service", ENGINES, indirect=True)
def test_concurrent_requests_have_the_same_results_as_some_order_of_them(service: Service) -> None:
    explore(service.client, service.url_of_database, examples=20)
