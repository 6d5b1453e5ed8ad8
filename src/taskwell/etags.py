"""Entity tags: RFC 9110, section 8.8.3.

The tag of a task is its revision, such as `"57"`. The tag of a list names the state of the user's tasks and the query.
"""

import re
from hashlib import blake2s
from typing import NamedTuple

NOT_ENTITY_TAGS = 'must be * or a list of entity tags, such as "57", with the quotes'

_TAG = '(W/)?"[!#-~]*"'

ENTITY_TAGS_PATTERN = rf"^([*]|{_TAG}(, ?{_TAG})*)$"
"""The common forms, for JSON Schema. RFC 9110 permits a few more, such as empty elements."""

_MAX_REVISION = 2**63 - 1

# One element of a list. RFC 9110, section 5.6.1, lets a list have empty elements. The quantifiers of white space are
# possessive: with backtracking, 30 KiB of blanks took five seconds.
_ELEMENT = re.compile(r'[ \t]*+((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*+(?:,|$)')
_REVISION = re.compile(r'"([1-9][0-9]{0,18})"')
_LIST = re.compile(r'(?:W/)?"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,9})-([0-9a-f]{16}|all)"')


class MalformedEntityTagsError(ValueError):
    """A header is neither `*` nor a list of entity tags."""


def task_etag(revision: int) -> str:
    """Returns the strong entity tag of a task whose last change has this revision."""
    return f'"{revision}"'


class EntityTags:
    """The value of `If-Match` or `If-None-Match`: `*`, or a list of entity tags.

    Raises:
        MalformedEntityTagsError: `text` is neither.
    """

    def __init__(self, text: str) -> None:
        self.is_any = text.strip(" \t") == "*"
        self.tags = () if self.is_any else _parse(text)

    def revisions(self, *, weakly: bool = False) -> list[str]:
        """Returns the revisions that the tags name, in decimal digits. With `weakly`, weak tags count too."""
        tags = [tag.removeprefix("W/") for tag in self.tags] if weakly else self.tags
        return [match[1] for tag in tags if (match := _REVISION.fullmatch(tag))]

    def include(self, etag: str) -> bool:
        """Returns whether `etag` is in the list, by weak comparison, or the list is `*`."""
        return self.is_any or etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in self.tags]


def _parse(text: str) -> tuple[str, ...]:
    tags: list[str] = []
    position = 0
    while position < len(text):
        element = _ELEMENT.match(text, position)
        if element is None:
            raise MalformedEntityTagsError(text)
        tags += filter(None, element.groups())
        position = element.end()
    if not tags:
        raise MalformedEntityTagsError(text)
    return tuple(tags)


class Precondition(NamedTuple):
    """A write happens only if the task's revision is in `if_match` and not in `if_none_match`. None means no condition."""

    if_match: list[str] | None = None
    if_none_match: list[str] | None = None


class ListState(NamedTuple):
    """The state of a user's tasks, on which lists depend besides the query. Both are 0 before the user's first write."""

    revision: int
    epoch: int


ANY_STATE = ListState(-1, -1)
"""The state that `If-None-Match: *` names: whatever it is."""


def list_etag(state: ListState, query: bytes) -> str:
    """Returns the weak entity tag of a list. `query` is the query string of its URL."""
    return f'W/"{state.revision}-{state.epoch}-{_digest(query)}"'


def known_state(tags: EntityTags, query: bytes) -> ListState | None:
    """Returns the newest state that a tag names for the list with this query, or None."""
    digest = _digest(query)
    matches = [match for tag in tags.tags if (match := _LIST.fullmatch(tag)) and match[3] == digest]
    states = [ListState(int(match[1]), int(match[2])) for match in matches]
    return max((state for state in states if state.revision <= _MAX_REVISION), default=None)


def _digest(query: bytes) -> str:
    return blake2s(query, digest_size=8).hexdigest() if query else "all"
