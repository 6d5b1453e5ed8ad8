"""The metrics, as a real Prometheus reads them; the alerts and the dashboard that use them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from support.auth_server import AuthServer, body
from support.ports import free_port
from support.process import Server, production, run, serving
from support.prometheus import Prometheus, require
from support.relay import Relay
from support.service import sign
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.telemetry.reports import Reports
from taskwell.telemetry.request_counts import RequestCounts

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/telemetry.md"
DASHBOARD = ROOT / "deploy/grafana-dashboard.json"

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


@contextmanager
def measured(folder: Path, url: str, *arguments: str, **settings: str) -> Iterator[tuple[Server, int]]:
    """Serves with metrics, and yields their port, too."""
    port = free_port()
    with serving(
        folder, "serve", *arguments, **production(url) | {"TASKWELL_METRICS_PORT": str(port)} | settings
    ) as server:
        yield server, port


def scrape(port: int) -> Samples:
    """Returns the value of each sample by its name and its labels but `worker`, added up over the workers."""
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset((name, value) for name, value in sample.labels.items() if name != "worker")
            of_name = found.setdefault(sample.name, {})
            of_name[labels] = of_name.get(labels, 0) + sample.value
    return found


def value(port: int, name: str, **labels: str) -> float:
    return scrape(port)[f"taskwell_{name}"].get(frozenset(labels.items()), 0)


def _sqlite(folder: Path) -> str:
    url = f"sqlite:///{folder}/taskwell.db"
    upgrade(parse_database_url(url))
    return url


def test_without_a_port_there_are_no_metrics_and_their_library_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from taskwell.app import create_app; from taskwell.cli.environment import placeholder_settings;"
        "import taskwell.cli.serve; create_app(placeholder_settings({})); print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_requests_are_counted_by_route_and_status_and_never_by_user(tmp_path: Path) -> None:
    with measured(tmp_path, _sqlite(tmp_path)) as (server, port):
        for user in ("alice", "bob"):
            client = server.client(user)
            task = client.create()
            client.request("GET", task["id"])
            client.request("GET", 10**9)
        server.http.get("/api/alice/tasks")
        server.http.request("PROPFIND", "/api/alice/tasks")
        server.http.request("PROPFIND", "/coffee")
        found = scrape(port)
    one = "/api/{user_id}/tasks/{task_id}"
    expected = {
        ("POST", "/api/{user_id}/tasks", "201"): 2,
        ("GET", one, "200"): 2,
        ("GET", one, "404"): 2,
        ("GET", "/api/{user_id}/tasks", "401"): 1,
        ("_OTHER", "/api/{user_id}/tasks", "401"): 1,
        ("_OTHER", "unknown", "404"): 1,
    }
    assert found["taskwell_requests_total"] == {
        frozenset({"method": method, "route": route, "status": status}.items()): count
        for (method, route, status), count in expected.items()
    }
    durations = found["taskwell_request_duration_seconds_count"]
    assert durations[frozenset({"method": "GET", "route": one}.items())] == 4
    assert not re.search("alice|bob", str(found))


def test_methods_that_clients_invent_do_not_add_up() -> None:
    counts = RequestCounts()
    for number in range(100):
        counts.note(f"METHOD{number}", None, 404, 0.01)
    ((kind, durations),) = counts.durations.items()
    assert kind == ("_OTHER", None, 404)
    assert sum(durations.counts) == 100


def test_one_scrape_shows_all_workers_also_when_one_was_replaced(tmp_path: Path) -> None:
    with measured(tmp_path, _sqlite(tmp_path), "--workers", "3") as (server, port):
        prometheus = Prometheus(port)
        try:
            for _ in range(60):
                assert httpx2.get(f"{server.url}/health", verify=False).status_code == 200
            prometheus.wait_for("sum(taskwell_worker_up)", 3)
            prometheus.wait_for('sum(taskwell_requests_total{route="/health"})', 60)
            assert len(prometheus.query("taskwell_requests_in_flight")) == 3
            (worker, *_) = _workers(server)
            os.kill(worker, signal.SIGKILL)
            prometheus.wait_for("sum(taskwell_worker_restarts_total)", 1)
            prometheus.wait_for("sum(taskwell_worker_up)", 3)
            assert len(prometheus.query("taskwell_requests_in_flight")) == 3
            # The counter of the dead worker is gone; no rate is ever negative.
            assert all(rate >= 0 for _, rate in prometheus.query("rate(taskwell_requests_total[1m])"))
        finally:
            prometheus.stop()


def _workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_worker_that_hangs_is_shown_as_down_and_wakes_somebody(tmp_path: Path) -> None:
    with measured(tmp_path, _sqlite(tmp_path), "--workers", "2") as (server, port):
        # A scrape without the reply of one worker takes two seconds.
        prometheus = Prometheus(port, seconds=4)
        try:
            prometheus.wait_for("sum(taskwell_worker_up)", 2)
            worker = _workers(server)[0]
            os.kill(worker, signal.SIGSTOP)
            alert = prometheus.wait_for_alert("TaskwellWorkerDown")
            os.kill(worker, signal.SIGCONT)
            assert alert["annotations"]["summary"].startswith(f"Worker {alert['labels']['worker']} of 127.0.0.1")
            prometheus.wait_for("sum(taskwell_worker_up)", 2)
        finally:
            prometheus.stop()


def test_a_late_report_is_not_mistaken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskwell.telemetry.reports.REPLY_SECONDS", 0.2)
    reports = Reports()
    worker = reports.connect(0)
    assert _values(reports) == {"taskwell_worker_up": 0}
    worker.send((worker.recv(), [GaugeMetricFamily("late", "", 1)]))
    # The answer to the next question, whose number is known.
    worker.send((1, [GaugeMetricFamily("present", "", 2)]))
    assert _values(reports) == {"taskwell_worker_up": 1, "present": 2}


def _values(reports: Reports) -> dict[str, float]:
    samples = [sample for metric in reports.collect() for sample in metric.samples]
    return {sample.name: sample.value for sample in samples if "restarts" not in sample.name}


def test_an_outage_of_the_database_is_counted_and_wakes_somebody(
    tmp_path: Path, new_migrated_url: Callable[[str], str]
) -> None:
    with Relay(new_migrated_url("postgres")) as relay, measured(tmp_path, relay.url) as (server, port):
        prometheus = Prometheus(port)
        try:
            alice = server.client("alice")
            task = alice.create()
            assert value(port, "database_round_trips_total") >= 1
            assert value(port, "database_connections", pool="postgres", state="idle") == 1
            relay.close()
            relay.reset()
            deadline = time.monotonic() + 60
            statuses = {alice.request("GET", task["id"]).status_code for _ in range(3)}
            assert statuses == {500}
            assert value(port, "database_errors_total", kind="unreachable") >= 3
            while time.monotonic() < deadline and not prometheus.query(
                'ALERTS{alertname="TaskwellDatabaseUnreachable"}'
            ):
                alice.request("GET", task["id"])
            assert prometheus.wait_for_alert("TaskwellDatabaseUnreachable")
            assert prometheus.wait_for_alert("TaskwellErrors")
        finally:
            prometheus.stop()


def test_tokens_and_keys_are_counted_by_result_and_cause(tmp_path: Path) -> None:
    with AuthServer(body(b"", 500)) as auth:
        settings = {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": auth.origin}
        with measured(tmp_path, _sqlite(tmp_path), **settings) as (server, port):
            assert server.client("alice").request("GET").status_code == 401
            assert value(port, "token_refusals_total", cause="issuer") == 1
            assert value(port, "key_set_fetches_total", result="failure") >= 1
            assert value(port, "key_set_age_seconds") == float("inf")
    with measured(tmp_path, f"sqlite:///{tmp_path}/taskwell.db") as (server, port):
        token = {"Authorization": f"Bearer {sign('alice')}"}
        for _ in range(3):
            assert server.http.get("/api/alice/tasks", headers=token).status_code == 200
        assert value(port, "token_cache_hits_total") == 2
        assert value(port, "token_verifications_total") == 1
        expired = {"Authorization": f"Bearer {sign('alice', exp=1)}"}
        server.http.get("/api/alice/tasks", headers=expired)
        assert value(port, "token_refusals_total", cause="expired") == 1
        assert "taskwell_key_set_age_seconds" not in scrape(port)


def test_limits_streams_and_the_purge_are_counted(tmp_path: Path) -> None:
    url = _sqlite(tmp_path)
    settings = {
        "TASKWELL_RATE_LIMIT": "3/day",
        "TASKWELL_MAX_STREAMS_PER_USER": "1",
        "TASKWELL_PURGE_INTERVAL_SECONDS": "1",
    }
    with measured(tmp_path, url, **settings) as (server, port):
        token = {"Authorization": f"Bearer {sign('alice')}"}
        with server.http.stream("GET", "/api/alice/events", headers=token) as stream:
            assert stream.status_code == 200
            next(stream.iter_raw())
            assert value(port, "streams_open") == value(port, "event_streams") == 1
            assert value(port, "events_lag_seconds") < 3
            assert server.http.get("/api/alice/events", headers=token).status_code == 429
            assert value(port, "streams_refused_total") == 1
        for _ in range(3):
            server.http.get("/api/alice/tasks", headers=token)
        assert value(port, "rate_limited_total", limit="user") == 2
        deadline = time.monotonic() + 10
        while not value(port, "purge_last_success_timestamp_seconds") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert abs(value(port, "purge_last_success_timestamp_seconds") - time.time()) < 20


def test_only_the_metrics_are_on_their_port_and_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    url = _sqlite(tmp_path)
    with measured(tmp_path, url) as (server, port):
        assert server.http.get("/metrics").status_code == 404
        assert httpx2.get(f"http://127.0.0.1:{port}/").status_code == 404
        assert httpx2.post(f"http://127.0.0.1:{port}/metrics").status_code == 501
        done = run(tmp_path, "serve", "--port", "0", **production(url), TASKWELL_METRICS_PORT=str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stderr.rstrip().endswith("choose another TASKWELL_METRICS_PORT")


# --- the documents, the alerts and the dashboard


def _documented() -> set[str]:
    return set(re.findall(r"^\| `(taskwell_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))


def test_every_metric_is_documented_and_on_the_dashboard_whose_queries_work(
    tmp_path: Path, new_migrated_url: Callable[[str], str]
) -> None:
    with AuthServer(body(b"", 500)) as auth:
        settings = {
            "TASKWELL_RATE_LIMIT": "3/day",
            "TASKWELL_PURGE_INTERVAL_SECONDS": "3600",
            "BETTER_AUTH_SECRET": "",
            "BETTER_AUTH_URL": auth.origin,
        }
        with measured(tmp_path, new_migrated_url("postgres"), **settings) as (server, port):
            server.http.get("/health")
            scraped = {re.sub("_(bucket|count|sum)$", "", name) for name in scrape(port)}
            names = {name for name in scraped if name.startswith("taskwell_")}
            assert names == _documented()
            dashboard = json.loads(DASHBOARD.read_text())
            queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
            used = set(re.findall(r"taskwell_\w+", " ".join(queries)))
            assert {re.sub("_(bucket|count|sum)$", "", name) for name in used} == names
            prometheus = Prometheus(port)
            try:
                prometheus.wait_for("sum(taskwell_worker_up)", 1)
                for query in queries:
                    prometheus.query(query.replace("$__rate_interval", "1m").replace("$job", "taskwell"))
            finally:
                prometheus.stop()


def test_every_alert_is_valid_documented_and_provoked() -> None:
    promtool = require("promtool")
    for arguments in (["check", "rules", "deploy/alerts.yml"], ["test", "rules", "deploy/alerts.test.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy/alerts.yml").read_text()))
    assert set(re.findall(r"alertname: (\w+)", (ROOT / "deploy/alerts.test.yml").read_text())) == alerts
    assert set(re.findall(r"^\| `(Taskwell\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)) == alerts
