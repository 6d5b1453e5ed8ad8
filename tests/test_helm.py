"""The Helm chart: what it renders is valid, restricted, and runs the service."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from support.documents import ROOT, blocks
from support.helm import CHART, Helm, objects
from support.ports import free_port
from support.process import production, run, serving
from taskwell.cli.main import parse
from taskwell.server.run import STOP_SECONDS

MakeDatabase = Callable[[str], str]
Objects = list[dict[str, Any]]

REQUIRED = ("--set=image.repository=registry.example/taskwell", "--set=secret=taskwell")
EVERYTHING = (
    *REQUIRED,
    "--set=migrationSecret=owner,certificates=authority,image.tag=1.2.3,image.pullSecrets={registry},autoscaling.enabled=false,replicas=3",
    "--set=settings.BETTER_AUTH_URL=https://app.example",
    "--set=ingress.enabled=true,ingress.host=tasks.example,ingress.className=public,ingress.tlsSecret=certificate",
    "--set=ingress.annotations.a=b,networkPolicy.from[0].podSelector.matchLabels.app=ingress",
    "--set=networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
)
KINDS = {"Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service"}


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Objects:
    return helm.render(*EVERYTHING)


def one(rendered: Objects, kind: str) -> dict[str, Any]:
    (found,) = [item for item in rendered if item["kind"] == kind]
    return found


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def container(rendered: Objects, kind: str) -> dict[str, Any]:
    (found,) = pod(one(rendered, kind))["containers"]
    return dict(found)


@pytest.mark.parametrize("options", [REQUIRED, EVERYTHING], ids=["required", "everything"])
def test_helm_finds_nothing_to_complain_about(helm: Helm, options: tuple[str, ...]) -> None:
    done = helm.run("lint --strict", *options)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kubernetes", ["1.30", "1.37"])
@pytest.mark.parametrize(
    ("options", "kinds"),
    [(REQUIRED, KINDS | {"HorizontalPodAutoscaler"}), (EVERYTHING, KINDS | {"Ingress"})],
    ids=["required", "everything"],
)
def test_the_objects_follow_the_strict_schemas_of_kubernetes(
    helm: Helm, options: tuple[str, ...], kinds: set[str], kubernetes: str
) -> None:
    rendered = helm.render(*options, f"--kube-version={kubernetes}")
    assert {item["kind"] for item in rendered} == kinds
    program = str(Path(sys.executable).with_name("kubernetes-validate"))
    done = subprocess.run(
        [program, "--strict", "--kubernetes-version", kubernetes, "-"],
        input=yaml.safe_dump_all(rendered),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "--set=image.repository=",
        "--set=secret=",
        "--set=replica=3",
        "--set=settings.better_auth_url=https://app.example",
        "--set=settings.TASKWELL_METRICS_PORT=9000",
        "--set=ingress.enabled=true",
        "--set=ingress=null",
    ],
)
def test_a_missing_or_misspelt_value_is_an_error(helm: Helm, wrong: str) -> None:
    done = helm.run("template taskwell", *REQUIRED, wrong)
    assert done.returncode != 0
    assert "schema" in done.stderr


def test_the_chart_is_of_this_version_and_runs_as_the_user_of_the_image(rendered: Objects) -> None:
    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^(?:appV|v)ersion: (.*)$", chart, re.MULTILINE) == [version("taskwell")] * 2
    (user,) = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    for kind in ("Deployment", "Job"):
        context = pod(one(rendered, kind))["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_pods_meet_the_restricted_standard(rendered: Objects, kind: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    template = pod(one(rendered, kind))
    assert template["securityContext"]["runAsNonRoot"]
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(rendered, kind)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert template["automountServiceAccountToken"] is False
    # Also a type that the standard permits.
    assert template["volumes"] == [{"name": "certificates", "secret": {"secretName": "authority"}}]
    assert container(rendered, kind)["volumeMounts"] == [
        {"name": "certificates", "mountPath": "/etc/taskwell/certificates", "readOnly": True}
    ]


def test_only_the_migration_gets_the_url_of_the_owner(rendered: Objects) -> None:
    def secrets(kind: str) -> list[str]:
        return [source["secretRef"]["name"] for source in container(rendered, kind)["envFrom"]]

    assert secrets("Deployment") == ["taskwell"]
    assert secrets("Job") == ["taskwell", "owner"]


def test_requests_in_flight_end_before_a_pod_is_killed(rendered: Objects) -> None:
    pause = container(rendered, "Deployment")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(one(rendered, "Deployment"))["terminationGracePeriodSeconds"] >= pause + STOP_SECONDS + 5


def test_the_metrics_are_closed_until_a_reader_is_named(helm: Helm, rendered: Objects) -> None:
    def ports(policy: dict[str, Any]) -> list[str]:
        return [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]

    assert ports(one(helm.render(*REQUIRED), "NetworkPolicy")) == ["http"]
    assert ports(one(rendered, "NetworkPolicy")) == ["http", "metrics"]
    assert [port["name"] for port in one(rendered, "Service")["spec"]["ports"]] == ["http"]


@pytest.mark.slow
def test_the_service_starts_with_the_environment_of_its_pod(
    rendered: Objects, new_database_url: MakeDatabase, tmp_path: Path
) -> None:
    settings = {entry["name"]: entry["value"] for entry in container(rendered, "Deployment")["env"]}
    settings |= production(new_database_url("postgres")) | {"TASKWELL_METRICS_PORT": str(free_port())}
    del settings["BETTER_AUTH_URL"]
    migrated = run(tmp_path, *container(rendered, "Job")["args"], **settings)
    assert migrated.returncode == 0, migrated.stderr
    with serving(tmp_path, **settings) as server:
        probes = [container(rendered, "Deployment")[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
        assert [server.http.get(probe["httpGet"]["path"]).status_code for probe in probes] == [200, 200, 200]
        assert httpx2.get(f"http://127.0.0.1:{settings['TASKWELL_METRICS_PORT']}/metrics").status_code == 200
    # Kubernetes sets such variables for each service, unless the pod does without them.
    assert pod(one(rendered, "Deployment"))["enableServiceLinks"] is False
    assert run(tmp_path, "serve", **settings | {"TASKWELL_PORT": "tcp://10.0.0.1:80"}).returncode == 2


def test_the_documented_commands_and_values_install_the_chart(helm: Helm, tmp_path: Path) -> None:
    (code,) = [block for block in blocks("docs/deploy.md", "sh") if "helm install" in block]
    values = blocks("docs/deploy.md", "yaml")[0]
    (tmp_path / "taskwell.yaml").write_text(values, encoding="utf-8")
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    # Without a cluster, the programs print the objects instead of creating them.
    code = code.replace("helm install", "helm template").replace(" --wait --timeout 65m", "")
    code = re.sub(r"(?m)^kubectl create ", "echo ---; kubectl create --dry-run=client --output=yaml ", code)
    done = subprocess.run(
        ["sh", "-eu", "-c", code],
        cwd=tmp_path,
        env={"PATH": f"{helm.path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rendered = objects(done.stdout)
    made = {item["metadata"]["name"] for item in rendered if item["kind"] == "Secret"}
    used = {
        source["secretRef"]["name"] for kind in ("Deployment", "Job") for source in container(rendered, kind)["envFrom"]
    }
    assert made == used
    assert parse(container(rendered, "Job")["args"])


def test_the_documented_monitor_finds_the_metrics_of_the_pods(rendered: Objects) -> None:
    """The schema of Prometheus' own objects is in no package."""
    monitor = yaml.safe_load(blocks("docs/deploy.md", "yaml")[1])["spec"]
    labels = one(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    # The job of the alerts.
    assert labels[monitor["jobLabel"]] == "taskwell"
    ports = {port["name"] for port in container(rendered, "Deployment")["ports"]}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports
