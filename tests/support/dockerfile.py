"""Runs the instructions of a Dockerfile without a container engine: a folder is the image's root.

The image's paths become paths in that folder, and a base image of Python becomes a virtual environment in its
/usr/local. So the commands are the Dockerfile's own, but Python, Node and the system's libraries are this machine's.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import venv
from dataclasses import dataclass, field
from pathlib import Path

# The paths of the image that the Dockerfile names. A path after a letter is a part of a URL or of another path.
_IMAGE_PATHS = re.compile(r"(?<![\w.:/])/(?=(?:opt|src|usr/local)\b)")
RUN_SECONDS = 300


@dataclass(frozen=True)
class Instruction:
    """An instruction, such as `COPY`, and its text, in which continued lines are joined."""

    name: str
    text: str

    def words(self) -> list[str]:
        """Returns the words of the exec form, or of a shell-like text."""
        parsed = json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)
        return [str(word) for word in parsed]


def instructions(dockerfile: str) -> list[Instruction]:
    """Returns the instructions of a Dockerfile."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines()]


@dataclass
class Image:
    """An image, as far as it is built: its root folder and its settings."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Instruction] = field(default_factory=dict)
    folder: str = "/"

    def inside(self, text: str) -> str:
        """Returns the text with the image's paths replaced by those in the root folder."""
        return _IMAGE_PATHS.sub(f"{self.root}/", text)

    def command(self) -> list[str]:
        """Returns the command line with which a container starts."""
        return [word for name in ("ENTRYPOINT", "CMD") if name in self.settings for word in self.settings[name].words()]

    def health_check(self) -> list[str]:
        """Returns the command line of the health check."""
        text = self.settings["HEALTHCHECK"].text
        return Instruction("CMD", text[text.index("CMD ") + 4 :]).words()


def build(dockerfile: str, context: Path, folder: Path) -> Image:
    """Builds the last stage. `context` holds the files that a builder gets."""
    stages: dict[str, Image] = {}
    image = Image(folder)
    for instruction in instructions(dockerfile):
        if instruction.name == "FROM":
            # A finished stage moves away, so that each one is built at the same path.
            _put_aside(stages)
            image = _begin(folder / "root", instruction.text)
            stages[instruction.text.partition(" AS ")[2]] = image
        else:
            _apply(instruction, image, context, stages)
    return image


def _put_aside(stages: dict[str, Image]) -> None:
    for name, stage in stages.items():
        if stage.root.name == "root":
            stage.root = stage.root.rename(stage.root.with_name(f"stage-{name}"))


def _begin(root: Path, base: str) -> Image:
    """Returns the beginning of a stage."""
    if not base.startswith("node:"):
        venv.create(root / "usr/local", with_pip=True)
    return Image(root, {"PATH": f"{root}/usr/local/bin:/usr/bin:/bin", "HOME": str(root)})


def _apply(instruction: Instruction, image: Image, context: Path, stages: dict[str, Image]) -> None:
    match instruction.name:
        case "ENV":
            for name, value in (pair.split("=", 1) for pair in instruction.words()):
                image.environment[name] = image.inside(value.replace("$PATH", image.environment["PATH"]))
        case "WORKDIR":
            image.folder = image.inside(instruction.text)
            Path(image.folder).mkdir(parents=True, exist_ok=True)
        case "COPY":
            _copy(instruction.words(), image, context, stages)
        case "RUN":
            _run(instruction.text, image)
        case _:
            image.settings[instruction.name] = instruction


def _copy(words: list[str], image: Image, context: Path, stages: dict[str, Image]) -> None:
    *sources, target = [word for word in words if not word.startswith("--")]
    option = next((word for word in words if word.startswith("--from=")), None)
    target_path = Path(image.folder, image.inside(target))
    for source in sources:
        found = Path(stages[option.removeprefix("--from=")].inside(source)) if option else context / source
        if found.is_dir():
            shutil.copytree(found, target_path, dirs_exist_ok=True, symlinks=True)
        else:
            shutil.copy(found, target_path)


def _run(command: str, image: Image) -> None:
    # The package index that this machine uses, and its proxy.
    ours = {name: value for name, value in os.environ.items() if re.match("(?i)pip_|ssl_|.*_proxy|uv_index", name)}
    done = subprocess.run(
        ["sh", "-c", image.inside(command)],
        cwd=image.folder,
        env=ours | image.environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
