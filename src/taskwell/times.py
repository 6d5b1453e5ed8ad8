"""Times as clients see them."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """`moment` in UTC, always with six digits of a second, so that texts sort as times do (RFC 3339, section 5.1)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
