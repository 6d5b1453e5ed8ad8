"""Formats times for clients."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Returns `moment` in UTC, always with six decimals, so that the strings sort like the times (RFC 3339, section 5.1)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
