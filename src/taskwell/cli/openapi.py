"""`taskwell openapi`: print the OpenAPI document."""

import argparse
import json
from pathlib import Path

from taskwell.app import create_app
from taskwell.cli.environment import placeholder_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = "Print the OpenAPI document, for example to generate a client. Needs no settings."
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the document to FILE instead")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    # The document does not depend on settings, but `create_app` requires them.
    document = json.dumps(create_app(placeholder_settings({})).openapi(), indent=2) + "\n"
    if options.output:
        options.output.write_text(document, encoding="utf-8")
    else:
        print(document, end="")
