"""The files in deploy/ for Fly.io, Render and Railway, as one kind of deployment."""

import json
import runpy
import tomllib
from dataclasses import dataclass
from typing import Any

import yaml
from railway_sdk import create_railway_context  # type: ignore[import-untyped]

from support.documents import ROOT


@dataclass
class Deployment:
    """The content of a platform's file. The values of `secrets` are not in it; the operator gives them to the platform."""

    variables: dict[str, str]
    secrets: set[str]
    release_command: str
    health_path: str
    stop_seconds: int


def fly() -> dict[str, Any]:
    return tomllib.loads((ROOT / "deploy/fly/fly.toml").read_text(encoding="utf-8"))


def render() -> dict[str, Any]:
    blueprint: dict[str, Any] = yaml.safe_load((ROOT / "deploy/render/render.yaml").read_text(encoding="utf-8"))
    return blueprint


def railway() -> dict[str, Any]:
    """Returns the graph of the project, as Railway's own library reads it."""
    define = runpy.run_path(str(ROOT / "deploy/railway/railway.py"))["main"]
    graph: dict[str, Any] = define(create_railway_context(environment="production")).to_graph()
    # Railway gets it as JSON.
    return dict(json.loads(json.dumps(graph)))


def on_fly() -> Deployment:
    file = fly()
    (check,) = file["http_service"]["checks"]
    # `fly secrets set` sets them.
    secrets = {"DATABASE_URL", "MIGRATION_DATABASE_URL"}
    # Fly keeps the image's entry point.
    release = f"taskwell {file['deploy']['release_command']}"
    return Deployment(file["env"], secrets, release, check["path"], file["kill_timeout"])


def on_render() -> Deployment:
    (service,) = render()["services"]
    variables = {entry["key"]: entry["value"] for entry in service["envVars"] if "value" in entry}
    secrets = {entry["key"] for entry in service["envVars"] if entry.get("sync") is False}
    path, seconds = service["healthCheckPath"], service["maxShutdownDelaySeconds"]
    return Deployment(variables, secrets, service["preDeployCommand"], path, seconds)


def on_railway() -> Deployment:
    (service,) = railway()["resources"]
    given = service["variables"]
    variables = {name: given[name]["value"] for name in given if given[name]["type"] == "literal"}
    secrets = {given[name]["name"] for name in given if given[name]["type"] == "sharedReference"}
    (release,) = service["deploy"]["preDeployCommand"]
    seconds = int(variables.pop("RAILWAY_DEPLOYMENT_DRAINING_SECONDS"))
    return Deployment(variables, secrets, release, service["deploy"]["healthcheckPath"], seconds)
