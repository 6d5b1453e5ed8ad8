"""A Prometheus for the test run."""

import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.daemon import Daemon

ALERTS = Path(__file__).parents[2] / "deploy/alerts.yml"
SECONDS = 30

Samples = list[tuple[dict[str, str], float]]


class Prometheus(Daemon):
    """A Prometheus that scrapes a port of this machine every `seconds`, with our alerts, which fire without a delay."""

    READY = b"Server is ready to receive web requests"
    END = signal.SIGKILL

    def __init__(self, port: int, *, seconds: int = 1) -> None:
        program = require("prometheus")
        super().__init__()
        rules = self._write("alerts.yml", re.sub(r"for: \w+", "for: 0s", ALERTS.read_text()))
        configuration = self._write(
            "prometheus.yml",
            f"global: {{scrape_interval: {seconds}s, evaluation_interval: 1s}}\nrule_files: [{rules}]\n"
            f'scrape_configs: [{{job_name: taskwell, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]\n',
        )
        self._start(
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
        self.wait_until_ready()
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", verify=False)

    def query(self, expression: str) -> Samples:
        """Returns the labels and the value of each sample now."""
        result = self._http.get("/query", params={"query": expression}).json()
        assert result["status"] == "success", result
        return [(sample["metric"], float(sample["value"][1])) for sample in result["data"]["result"]]

    def wait_for(self, expression: str, expected: float) -> None:
        """Waits until the only sample has this value."""
        deadline = time.monotonic() + SECONDS
        while (found := [value for _, value in self.query(expression)]) != [expected]:
            assert time.monotonic() < deadline, (expression, found)
            time.sleep(0.2)

    def wait_for_alert(self, name: str) -> dict[str, Any]:
        """Waits until an alert fires, and returns it."""
        deadline = time.monotonic() + SECONDS
        while True:
            alerts: Sequence[dict[str, Any]] = self._http.get("/alerts").json()["data"]["alerts"]
            for alert in alerts:
                if alert["labels"]["alertname"] == name and alert["state"] == "firing":
                    return alert
            assert time.monotonic() < deadline, alerts
            time.sleep(0.2)

    def stop(self) -> None:
        """Stops it at once and removes its files."""
        self._http.close()
        super().stop()


def require(program: str) -> str:
    """Returns the path of `prometheus` or `promtool`. Without it the test is skipped, or fails in continuous integration."""
    found = shutil.which(program)
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {program}: install it (Debian: prometheus)")
    return found
