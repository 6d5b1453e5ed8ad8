"""`.env`: the encodings and lines that are accepted, and one line with status 2 for the rest."""

from pathlib import Path

import pytest

from support.process import run
from taskwell.cli.environment import read_environment
from taskwell.errors import SettingsError

NAME = "TASKWELL_TEST_OF_ENV_FILE"


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `.env` in the current folder; the environment is restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(NAME, "")
    monkeypatch.delenv(NAME)
    return tmp_path / ".env"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (f"{NAME}=x\n".encode(), "x"),
        (f"{NAME}=x".encode(), "x"),
        (f"\ufeff{NAME}=x\n".encode(), "x"),
        (f"# a comment\r\n\r\nexport {NAME} = x # another\r\n".encode(), "x"),
        (f'{NAME}="x # y"\n'.encode(), "x # y"),
        (f"{NAME}='x\ny'\n".encode(), "x\ny"),
        (f"{NAME}=${{HOME}}\n".encode(), "${HOME}"),
        (f"{NAME}=Grüße\n".encode(), "Grüße"),
        (b"", None),
        (b"\xef\xbb\xbf", None),
        (b"\n\n# only a comment", None),
    ],
)
def test_a_line_of_the_file_is_a_setting(env_file: Path, content: bytes, value: str | None) -> None:
    env_file.write_bytes(content)
    assert read_environment().get(NAME) == value


def test_the_environment_wins(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text(f"{NAME}=file\n", encoding="utf-8")
    monkeypatch.setenv(NAME, "environment")
    assert read_environment()[NAME] == "environment"


UNUSABLE = {
    "UTF-16 as PowerShell writes it": (
        f"{NAME}=x\r\n".encode("utf-16"),
        ".env: is not UTF-8 text, but probably UTF-16",
    ),
    "big-endian UTF-16": (b"\xfe\xff" + f"{NAME}=x\n".encode("utf-16-be"), ".env: is not UTF-8 text"),
    "UTF-16 without a byte order mark": (f"{NAME}=x\n".encode("utf-16-le"), ".env: is not UTF-8 text"),
    "UTF-32": (f"{NAME}=x\n".encode("utf-32"), ".env: is not UTF-8 text"),
    "NUL": (f"{NAME}=x\0y\n".encode(), ".env: is not UTF-8 text"),
    "Latin-1": (f"# OK\n{NAME}=Grüße\n".encode("latin-1"), ".env: line 2 is not UTF-8 text; save the file as UTF-8"),
    "a binary file": (b"\x89PNG\r\n\x1a\n\xff\xd8", ".env: line 1 is not UTF-8 text"),
    "a space in the name": (b"\n\nMY NAME=x\n", ".env: line 3 is not NAME=value"),
    "a colon": (f"A=1\n{NAME}: x\n".encode(), ".env: line 2 is not NAME=value"),
    "an unclosed quote": (f'A=1\n\n{NAME}="x\n'.encode(), ".env: line 3 is not NAME=value"),
    "no value": (f"{NAME}\n".encode(), ".env: line 1 is not NAME=value; correct it, or begin it with #"),
    "no name": (b"=x\n", ".env: line 1 is not NAME=value"),
    "an invisible character in the name": (f"\u200b{NAME}=x\n".encode(), ".env: line 1 has an invisible"),
    "a letter that only looks like A": (
        "A=1\nT\u0410SKWELL=x\n".encode(),
        ".env: line 2 has an invisible or non-ASCII",
    ),
}


@pytest.mark.parametrize(("content", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_file_is_rejected_with_the_reason(env_file: Path, content: bytes, reason: str) -> None:
    env_file.write_bytes(content)
    with pytest.raises(SettingsError) as rejection:
        read_environment()
    assert str(rejection.value).startswith(reason)
    assert "\n" not in str(rejection.value)
    assert "x" not in str(rejection.value).replace("text", "")


def test_a_folder_called_env_is_ignored(env_file: Path) -> None:
    env_file.mkdir()
    assert NAME not in read_environment()


def test_a_file_that_cannot_be_read_is_rejected(env_file: Path) -> None:
    # A link to itself, because root may read any file.
    env_file.symlink_to(env_file)
    with pytest.raises(SettingsError, match=r"\A\.env: cannot be read: Too many levels of symbolic links\Z"):
        read_environment()


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["token", "--user", "a"], ["doctor"]])
def test_every_command_ends_with_status_2_and_no_traceback(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / ".env").write_bytes("DATABASE_URL=sqlite:///x.db\n".encode("utf-16"))
    done = run(tmp_path, *command)
    assert done.returncode == 2
    assert "probably UTF-16" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
