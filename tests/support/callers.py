"""Clients that go on while the servers die, and accept only the responses that are documented for that."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import httpx2

from support.ledger import Ledger
from support.problem import assert_problem
from support.service import Client

PATIENCE_SECONDS = 180
PAUSE_SECONDS = 0.1
CODES = {404: "NOT_FOUND", 410: "GONE", 412: "PRECONDITION_FAILED"}

NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)


@dataclass
class Caller:
    """A client, until `stop` is set. `counts` says how often its requests ended in which way."""

    client: Client
    ledger: Ledger
    stop: threading.Event
    random: Random
    counts: Counter[str] = field(default_factory=Counter)

    def call(self, method: str, path: str | int, *statuses: int, **options: object) -> httpx2.Response | None:
        """Sends a request until the service accepts it. Returns None if nobody knows whether it was carried out.

        The response has one of `statuses`. Any other one is a failure of the test.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                response = self.client.request(method, path, **options)
            except NOT_SENT:
                self._pause("not sent")
                continue
            except httpx2.TransportError:
                self._pause("lost")
                return None
            if response.status_code == 503:
                assert_problem(response, 503, "OVERLOADED")
                self._pause("503")
                continue
            if response.status_code == 500:
                assert_problem(response, 500, "DATABASE_ERROR")
                self._pause("500")
                return None
            assert response.status_code in statuses, (method, path, options, response.status_code, response.text)
            if code := CODES.get(response.status_code):
                assert_problem(response, response.status_code, code)
            self.counts[str(response.status_code)] += 1
            return response
        raise AssertionError(f"the service is away for {PATIENCE_SECONDS} seconds")

    def _pause(self, reason: str) -> None:
        self.counts[reason] += 1
        time.sleep(PAUSE_SECONDS)
