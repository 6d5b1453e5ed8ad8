"""The report: one entry for each finding, then the totals."""

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
    "none are set, so this report is about `taskwell dev`",
    "for production, set DATABASE_URL and either BETTER_AUTH_URL or BETTER_AUTH_SECRET; see docs/settings.md",
)


async def report(first: Finding, settings: Settings, token: str | None, say: Say) -> bool:
    """Reports `first`, then each finding as soon as its check ends. Returns True if no check failed."""
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
    """Reports why the settings cannot be used."""
    for reason in str(error).splitlines():
        say(str(Finding("fail", "settings", reason)))
