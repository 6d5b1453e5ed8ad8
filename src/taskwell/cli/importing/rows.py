"""A row of a foreign table as a task."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from pydantic import ValidationError

from taskwell.auth.tokens import is_usable_user
from taskwell.tasks.schemas import MAX_BIGINT, TaskCreate

Values = dict[str, object]

# Numbers below are seconds since 1970, others milliseconds. As milliseconds, it is in March 1973.
_FIRST_MILLISECOND = 100_000_000_000

_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "done", "complete", "completed"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "", "todo", "open", "pending", "active"), False),
}


class BrokenRuleError(Exception):
    """The row breaks a rule of tasks; the message names the member and the rule."""


def task_of(row: Mapping[str, object], now: datetime) -> Values:
    """Returns the members of a task. Those that the row lacks have the values of a new task, made `now`.

    The `id` is None if the row's is not an integer.

    Raises:
        BrokenRuleError: a value is not allowed.
    """
    created_at = _time(row.get("created_at"), "created_at") or now
    # A task cannot have changed before it was created. Some back ends take the two times from different clocks.
    return {
        "id": _id(row.get("id")),
        "user_id": _user(row["user_id"]),
        **_checked(row["title"], row.get("description"), complete=_boolean(row.get("complete"))),
        "created_at": created_at,
        "updated_at": max(_time(row.get("updated_at"), "updated_at") or created_at, created_at),
    }


def _id(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    if not 1 <= value <= MAX_BIGINT:
        raise BrokenRuleError(f"id: {value} is not from 1 to {MAX_BIGINT}")
    return value


def _user(value: object) -> str:
    text = str(value) if isinstance(value, str | int | UUID) and not isinstance(value, bool) else ""
    if not is_usable_user(text):
        raise BrokenRuleError("user_id: is not a text of 1 to 255 printable characters")
    return text


def _checked(title: object, description: object, *, complete: bool) -> Values:
    try:
        new = TaskCreate.model_validate({"title": title, "description": description, "complete": complete})
        return {"title": new.title, "description": new.description, "complete": new.complete}
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_context=False, include_input=False)
        raise BrokenRuleError(f"{first['loc'][0]}: {first['msg']}") from None


def _boolean(value: object) -> bool:
    if value is None:
        return False
    # A time of completion is common, too.
    found = True if isinstance(value, datetime) else _BOOLEANS.get(str(value).strip().lower())
    if found is None:
        raise BrokenRuleError(f"complete: {str(value)[:20]!r} is neither true nor false")
    return found


def _time(value: object, member: str) -> datetime | None:
    if value is None:
        return None
    try:
        found = _parsed(value)
        # A time without a zone is in UTC.
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BrokenRuleError(f"{member}: {str(value)[:30]!r} is not a time") from None


def _parsed(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / (1 if value < _FIRST_MILLISECOND else 1000), UTC)
    return datetime.fromisoformat(str(value))
