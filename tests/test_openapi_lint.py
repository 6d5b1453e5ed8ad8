"""Linters find nothing wrong in the OpenAPI document: Redocly's, Spectral's, and Spectral's rules for OWASP's top ten."""

import json
import os
import subprocess
from pathlib import Path

from support.document import SNAPSHOT
from support.npm import require_packages

LINTERS = Path(__file__).parent / "openapi"


def lint(*command: str | Path) -> subprocess.CompletedProcess[str]:
    require_packages(LINTERS)
    program, *arguments = command
    environment = {"PATH": os.environ["PATH"], "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    return subprocess.run(
        [LINTERS / "node_modules" / ".bin" / program, "lint", *arguments, SNAPSHOT],
        env=environment,
        cwd=LINTERS,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_redocly_finds_nothing() -> None:
    done = lint("redocly", "--config=redocly.yaml", "--format=json")
    assert json.loads(done.stdout)["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, done.stdout


def test_spectral_finds_nothing() -> None:
    done = lint("spectral", "--ruleset=spectral.yaml", "--format=json", "--quiet")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
