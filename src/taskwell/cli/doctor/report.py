"""The report: what is found, a line each, and how it adds up."""

from collections.abc import Callable

from taskwell.cli.doctor.auth import examine_auth
from taskwell.cli.doctor.database import examine_database
from taskwell.cli.doctor.finding import Finding
from taskwell.errors import SettingsError
from taskwell.settings import Settings

Say = Callable[[str], None]


GIVEN = Finding("ok", "settings", "usable by `taskwell serve`")
NOT_GIVEN = Finding(
    "warn",
    "settings",
    "none are given, so what follows is of `taskwell dev`",
    "to serve in production, set DATABASE_URL, and BETTER_AUTH_URL or BETTER_AUTH_SECRET; docs/settings.md explains them",
)


async def report(first: Finding, settings: Settings, token: str | None, say: Say) -> bool:
    """Says what it finds as soon as it is found, `first` before the rest; whether nothing fails."""
    say(str(first))
    marks = [first.mark]
    for findings in (examine_database(settings), examine_auth(settings, token)):
        async for finding in findings:
            say(str(finding))
            marks.append(finding.mark)
    counted = ", ".join(f"{marks.count(mark)} {mark}" for mark in ("ok", "warn", "fail"))
    say(f"\n{len(marks)} checks: {counted}")
    return "fail" not in marks


def report_unusable(error: SettingsError, say: Say) -> None:
    """Says why there is nothing to examine."""
    for reason in str(error).splitlines():
        say(str(Finding("fail", "settings", reason)))
