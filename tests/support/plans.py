"""Random requests. A plan names tasks and tags by what they are, such as "deleted" and "current"; with a model it
becomes a call."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from hypothesis import strategies as st

from support.model import Call, Condition, Model, Query
from support.service import Json

T = TypeVar("T")
Tag = Literal["current", "weak", "older", "foreign"]
Conditions = tuple[Tag, ...] | Literal["*", "malformed"]
Which = int | Literal["deleted", "foreign", "impossible"]

Conditional = st.SearchStrategy[Conditions | None]
Tasks = st.SearchStrategy[Which]

IMPOSSIBLE = (0, 2**63 - 1, 2**63)
MALFORMED = "57"
FOREIGN = '"abc"'


@dataclass(frozen=True)
class Plan:
    """A request. A task is a place in the list, or one that the user does not have."""

    method: str
    task: Which = 0
    body: Json | None = None
    key: str | None = None
    if_match: Conditions | None = None
    if_none_match: Conditions | None = None
    query: Query | None = None
    refused: int | None = None

    def call(self, model: Model, neighbour: Model) -> Call:
        """Returns the request that this is for the user of `model`."""
        if self.method == "POST":
            return Call("POST", body=self.body, key=self.key, refused=self.refused)
        if self.query:
            return list_call(model, self.query.path, self.query, self.if_none_match)
        task_id = _task_id(self.task, model, neighbour)
        revision = model.revisions.get(task_id, 1)
        tags = partial(_condition, current=f'"{revision}"', older=f'"{revision - 1}"')
        malformed = "malformed" in {self.if_match, self.if_none_match}
        return Call(
            self.method,
            f"/{task_id}",
            task_id,
            # Without a body planned, a replacement sends back what the client got.
            body=dict(model.tasks.get(task_id, {"title": "x", "complete": True})) if self._echoes else self.body,
            if_match=tags(self.if_match),
            if_none_match=tags(self.if_none_match),
            refused=400 if malformed else self.refused,
        )

    @property
    def _echoes(self) -> bool:
        return self.method == "PUT" and self.body is None


def list_call(model: Model, path: str, query: Query, conditions: Conditions | None) -> Call:
    """Returns a request for a list that the client may know already."""
    known = model.list_tags.get(path, {})
    other = next((other for other in model.list_tags if other != path), "")
    condition = _condition(
        conditions,
        current=model.list_tag(path) or FOREIGN,
        older=next(iter(known), FOREIGN),
        foreign=model.list_tag(other) or FOREIGN,
    )
    refused = 400 if conditions == "malformed" else None
    return Call("GET", path, query=query, if_none_match=condition, refused=refused)


def _task_id(which: Which, model: Model, neighbour: Model) -> int:
    """Returns the task's ID; a low one stands for a task that nobody has, if there is no such task."""
    if which == "impossible":
        return IMPOSSIBLE[len(model.tasks) % len(IMPOSSIBLE)]
    among = {"deleted": model.deleted, "foreign": tuple(neighbour.tasks)}
    ids = tuple(model.tasks) if isinstance(which, int) else among[which]
    return ids[which % len(ids) if isinstance(which, int) else -1] if ids else 0


def _condition(conditions: Conditions | None, *, current: str, older: str, foreign: str = FOREIGN) -> Condition | None:
    if conditions is None:
        return None
    if isinstance(conditions, str):
        return Condition("*" if conditions == "*" else MALFORMED)
    texts = {"current": current, "weak": _other_form(current), "older": older, "foreign": foreign}
    tags = tuple(texts[tag] for tag in conditions)
    return Condition(", ".join(tags), tags)


def _other_form(etag: str) -> str:
    return etag.removeprefix("W/") if etag.startswith("W/") else f"W/{etag}"


# --- values

# Text that differs only by case, or seems to; characters that are special elsewhere; and white space, which is removed.
TITLES = [
    *("milk", "Milk", "MILK", "Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE", "\N{LATIN SMALL LETTER LONG S}s"),
    *("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i", "\N{LATIN SMALL LETTER DOTLESS I}", "\N{KELVIN SIGN}"),
    *(
        "\N{GREEK SMALL LETTER SIGMA}\N{GREEK SMALL LETTER FINAL SIGMA}",
        "100%",
        "a_b",
        "\\",
        "\N{GRINNING FACE}",
        " x ",
    ),
]
SEARCHES = [
    *TITLES,
    *"mMxX",
    "\N{CYRILLIC SMALL LETTER YA}",
    "\N{LATIN CAPITAL LETTER E WITH ACUTE}",
    "IL",
    "ss",
    "S",
    "I",
    "k",
    "%",
    "_",
    "\N{GREEK CAPITAL LETTER SIGMA}",
]

# Letters whose case all databases' versions of Unicode agree on.
_characters = st.characters(max_codepoint=0x52F, exclude_categories=("C", "Z"))
_text = st.text(_characters, min_size=1, max_size=5)
titles = st.sampled_from(TITLES) | _text
descriptions = st.none() | st.just("") | titles
completes = st.booleans()


def _members(*required: str) -> st.SearchStrategy[Json]:
    members: dict[str, st.SearchStrategy[object]] = {
        "title": titles,
        "description": descriptions,
        "complete": completes,
    }
    optional = {name: values for name, values in members.items() if name not in required}
    return st.fixed_dictionaries({name: members[name] for name in required}, optional=optional)


ORDERS = [None, None, "created_at", "-created_at", "updated_at", "-updated_at", "title", "-title"]
queries = st.builds(
    Query,
    complete=st.sampled_from([None, None, True, False]),
    q=st.sampled_from([*[None] * len(SEARCHES), *SEARCHES]),
    sort=st.sampled_from(ORDERS),
    limit=st.none() | st.integers(1, 4),
    offset=st.sampled_from([None, None, 0, 1, 3]),
)
searches = st.lists(st.builds(Plan, st.just("GET"), query=st.builds(Query, q=st.sampled_from(SEARCHES))), min_size=5)
walks = st.builds(
    Query,
    complete=st.sampled_from([None, None, False]),
    q=st.sampled_from([None, None, "m"]),
    sort=st.sampled_from(ORDERS),
    limit=st.integers(1, 3),
)

# --- what a request is about

KEYS = ["key-1", "key-2", "key-3", '"key-1"']
places: Tasks = st.integers(0, 5)
which: Tasks = st.sampled_from([*range(6), *range(3), "deleted", "foreign", "impossible"])

_tag: st.SearchStrategy[Tag] = st.sampled_from(["current", "current", "weak", "older", "foreign"])
_one_tag: Conditional = st.tuples(_tag)
_two_tags: Conditional = st.tuples(_tag, _tag)
_no_tags: Conditional = st.sampled_from(["*", "malformed"])
unconditional: Conditional = st.none()
conditions: Conditional = unconditional | _one_tag | _two_tags | _no_tags
if_current: Conditional = st.just(("current",))

# --- requests


def _named(name: str, strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Returns the strategy with a short `repr`, which hypothesis computes often; in full it has 50,000 characters.

    It is also one alternative, where `|` would add each of its alternatives.
    """

    def drawn(draw: st.DrawFn) -> T:
        return draw(strategy)

    drawn.__name__ = name
    return st.composite(drawn)()


def creations() -> st.SearchStrategy[Plan]:
    """Creations of new tasks, and with a few keys, which are soon used again, of a few tasks."""
    # The values of the first two are the same.
    some: list[Json] = [{"title": "milk"}, {"title": " milk ", "complete": False}, {"title": "x"}]
    repeated = st.builds(Plan, st.just("POST"), body=st.sampled_from(some), key=st.sampled_from(KEYS))
    return repeated | st.builds(Plan, st.just("POST"), body=_members("title"))


def changes(
    tasks: Tasks = which, if_match: Conditional = conditions, if_none_match: Conditional = unconditional
) -> st.SearchStrategy[Plan]:
    """Replacements, patches and deletions."""
    plan = partial(st.builds, Plan, task=tasks, if_match=if_match, if_none_match=if_none_match)
    put, patch, delete = map(st.just, ("PUT", "PATCH", "DELETE"))
    return st.one_of(
        plan(put, body=_members("title", "complete")),
        plan(put),
        plan(patch, body=_members().filter(bool)),
        plan(patch, body=_one_member),
        plan(delete),
    )


_one_member: st.SearchStrategy[Json] = st.one_of(
    st.fixed_dictionaries({"title": titles}),
    st.fixed_dictionaries({"description": descriptions}),
    st.fixed_dictionaries({"complete": completes}),
)

reads = st.builds(Plan, st.sampled_from(["GET", "HEAD"]), task=which, if_none_match=conditions)
lists = st.builds(Plan, st.just("GET"), query=queries, if_none_match=conditions)

mistakes = st.sampled_from(
    [
        Plan("POST", body={"title": " "}, key="key-1", refused=422),
        Plan("POST", body={"title": "x", "completed": True}, key="key-2", refused=422),
        Plan("PUT", body={"title": "x"}, refused=422),
        Plan("PATCH", body={"id": 1}, refused=400),
        Plan("PATCH", body={"title": None}, refused=422),
        Plan("PATCH", "deleted", body={"complete": "yes"}, refused=422),
    ]
)

writes = _named(
    "writes",
    st.one_of(creations(), changes(if_match=unconditional), changes(), changes(if_none_match=conditions), mistakes),
)
requests = _named("requests", st.one_of(writes, writes, writes, reads, lists))

# --- races

MOST_AT_ONCE = 8


def _several(one: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    # hypothesis prefers short lists.
    return st.integers(2, MOST_AT_ONCE).flatmap(lambda number: st.lists(one, min_size=number, max_size=number))


_same: Tasks = st.just(0)
_list: st.SearchStrategy[Plan] = st.builds(Plan, st.just("GET"), query=st.just(Query()) | queries)


@st.composite
def _same_key(draw: st.DrawFn) -> list[Plan]:
    key = draw(st.sampled_from([f"race-{number}" for number in range(20)]))
    titles = draw(_several(st.sampled_from(["a", "a", "a", "b"])))
    return [Plan("POST", body={"title": title}, key=key) for title in titles]


_races: st.SearchStrategy[list[Plan]] = st.one_of(
    # At most one task.
    _same_key(),
    # One write.
    _several(changes(_same, if_current)),
    # All are kept.
    _several(st.builds(Plan, st.just("PATCH"), body=_one_member)),
    _several(changes(_same, unconditional)),
    # Each list is of one moment, and so is its tag.
    _several(_named("write", creations() | changes(places, unconditional)) | _list),
    _several(requests),
)
races = _named("races", _races)
