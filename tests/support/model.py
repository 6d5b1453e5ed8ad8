"""A model of the task API: it knows what a user did, and so how the service must answer the user's next request.

What only the service can know (ids, times, the tags of lists), the model takes from responses, after it has checked
them against what it knows. A `Model` never changes; each response that it explains leads to another one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlencode

import httpx2

from support.service import Json

Values = tuple[str, str | None, bool]

MEMBERS = {"id", "user_id", "title", "description", "complete", "created_at", "updated_at"}
MOST_TASKS = 1000
ERRORS = {
    400: "VALIDATION_ERROR",
    404: "NOT_FOUND",
    410: "GONE",
    412: "PRECONDITION_FAILED",
    422: "VALIDATION_ERROR",
}


class Unexplained(AssertionError):
    """No correct service could have given this response."""


def explain(*, holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unexplained(otherwise)


# --- requests


class Condition(NamedTuple):
    """`If-Match` or `If-None-Match`: the text that is sent, and its meaning."""

    text: str
    tags: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        return self.text == "*"

    def matches_strongly(self, etag: str) -> bool:
        return self.is_any or etag in self.tags

    def matches_weakly(self, etag: str) -> bool:
        return self.is_any or _opaque(etag) in map(_opaque, self.tags)


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/")


class Position(NamedTuple):
    """The sort value and the id of the last task on a page."""

    value: str
    id: int


@dataclass(frozen=True)
class Query:
    """Which tasks a list shows, and in which order."""

    complete: bool | None = None
    q: str | None = None
    sort: str | None = None
    limit: int | None = None
    offset: int | None = None

    @property
    def path(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None}
        text = urlencode({name: str(value).lower() if type(value) is bool else value for name, value in given.items()})
        return f"?{text}" if text else ""

    def matches(self, task: Json) -> bool:
        texts = (task["title"], task["description"] or "")
        found = self.q is None or any(fold(self.q) in fold(text) for text in texts)
        return found and self.complete in {None, task["complete"]}

    def position(self, task: Json) -> Position:
        return Position(task[self.sort.removeprefix("-")] if self.sort else "", task["id"])

    def in_order(self, tasks: Iterable[Json]) -> list[Json]:
        return sorted(tasks, key=self.position, reverse=self._descends)

    def comes_after(self, task: Json, position: Position) -> bool:
        here = self.position(task)
        return here < position if self._descends else here > position

    @property
    def _descends(self) -> bool:
        return self.sort is None or self.sort.startswith("-")


def fold(text: str) -> str:
    """Returns `text` in Unicode's simple case folding, which keeps the number of characters."""
    return "".join(next(form for form in (char.casefold(), char.lower(), char) if len(form) == 1) for char in text)


@dataclass(frozen=True)
class Call:
    """A request, as far as the response depends on it."""

    method: str
    path: str = ""
    task_id: int | None = None
    body: Json | None = None
    key: str | None = None
    if_match: Condition | None = None
    if_none_match: Condition | None = None
    query: Query = Query()
    after: Position | None = None
    refused: int | None = None
    """The status, if the request is invalid whatever tasks there are."""

    @property
    def headers(self) -> dict[str, str]:
        conditions = {"If-Match": self.if_match, "If-None-Match": self.if_none_match}
        fields = {name: condition.text for name, condition in conditions.items() if condition}
        return fields | ({"Idempotency-Key": self.key} if self.key else {})


# --- the model


class Creation(NamedTuple):
    """The use of a key: the task that it created, and the values."""

    values: Values
    task_id: int


class State(NamedTuple):
    """Everything that a user's lists depend on. Erasing the user begins another era."""

    era: int
    revision: int


class Page(NamedTuple):
    """The contents of a list, and the number of tasks on all pages."""

    tasks: Sequence[Json]
    total: int
    has_next: bool


@dataclass(frozen=True)
class Model:
    """The tasks of one user."""

    user: str
    revision: int = 0
    era: int = 0
    newest_id: int = 0
    tasks: Mapping[int, Json] = field(default_factory=dict)
    revisions: Mapping[int, int] = field(default_factory=dict)
    """The revision of each task's last change."""
    deleted: tuple[int, ...] = ()
    keys: Mapping[str, Creation] = field(default_factory=dict)
    list_tags: Mapping[str, Mapping[str, State]] = field(default_factory=dict)
    """For each list, by its path, the tags that it had and when."""

    @property
    def state(self) -> State:
        # Before the first write there are no tasks, in every era.
        return State(self.era if self.revision else 0, self.revision)

    def etag(self, task_id: int) -> str:
        return f'"{self.revisions[task_id]}"'

    def list_tag(self, path: str) -> str | None:
        """Returns the tag that the list has now, if that is known, or else its latest known one."""
        tags = self.list_tags.get(path, {})
        current = [tag for tag, state in tags.items() if state == self.state]
        return next(iter(current or reversed([*tags])), None)

    def page(self, query: Query, after: Position | None = None) -> Page:
        matching = query.in_order(task for task in self.tasks.values() if query.matches(task))
        rest = [task for task in matching if after is None or query.comes_after(task, after)][query.offset or 0 :]
        limit = query.limit or MOST_TASKS
        return Page(rest[:limit], len(matching), len(rest) > limit)

    def erased(self) -> "Model":
        """Returns the model after the operator has erased the user's tasks and revision."""
        return Model(self.user, era=self.era + 1, newest_id=self.newest_id, list_tags=self.list_tags)

    def after(self, call: Call, response: httpx2.Response) -> "Model":
        """Returns the model after this call, or itself if the call changed nothing.

        Raises:
            Unexplained: the response is wrong if the call came now.
        """
        if call.refused:
            return self._failed(response, call.refused)
        if call.method == "POST":
            return self._after_create(call, response)
        if call.task_id is None:
            return self._after_list(call, response)
        if call.task_id not in self.tasks:
            return self._failed(response, 404)
        if call.method in {"GET", "HEAD"}:
            return self._after_get(call, call.task_id, response)
        return self._after_write(call, call.task_id, response)

    def learned(self, call: Call, response: httpx2.Response) -> "Model":
        """Returns the model that also knows the tag of this list, which is one of the present state."""
        if call.query is None or call.task_id is not None or response.status_code != 200:
            return self
        tag, tags = response.headers["ETag"], self.list_tags.get(call.path, {})
        explain(holds=tags.get(tag, self.state) == self.state, otherwise="the list had this tag before a change")
        return replace(self, list_tags={**self.list_tags, call.path: {**tags, tag: self.state}})

    # --- create

    def _after_create(self, call: Call, response: httpx2.Response) -> "Model":
        values = _changed((("", None, False)), call.body or {})
        # Quoted, it is the same key.
        key = call.key.strip('"') if call.key else None
        creation = self.keys.get(key) if key else None
        if creation is None:
            return self._created(values, key, response)
        if creation.task_id not in self.tasks:
            return self._failed(response, 410)
        if creation.values != values:
            return self._failed(response, 422)
        explain(holds=response.headers.get("Idempotency-Replayed") == "true", otherwise="not marked as replayed")
        return self._located(creation.task_id, response)

    def _created(self, values: Values, key: str | None, response: httpx2.Response) -> "Model":
        explain(holds=response.status_code == 201, otherwise="the status is not 201")
        explain(holds="Idempotency-Replayed" not in response.headers, otherwise="a new task is marked as replayed")
        task: Json = response.json()
        explain(holds=task["id"] > self.newest_id, otherwise="the ID is not above all earlier ones")
        explain(holds=task["user_id"] == self.user, otherwise="the task has another owner")
        explain(holds=task["created_at"] == task["updated_at"], otherwise="the times of a new task differ")
        after = self._written(task, values)
        keys = {**self.keys, key: Creation(values, task["id"])} if key else self.keys
        return replace(after, newest_id=task["id"], keys=keys)._located(task["id"], response)

    def _located(self, task_id: int, response: httpx2.Response) -> "Model":
        location = f"/api/{self.user}/tasks/{task_id}"
        explain(holds=response.headers.get("Location") == location, otherwise="Location is wrong")
        return self._shown(task_id, response, 201)

    # --- one task

    def _after_get(self, call: Call, task_id: int, response: httpx2.Response) -> "Model":
        if call.if_none_match and call.if_none_match.matches_weakly(self.etag(task_id)):
            return self._not_modified(response, self.etag(task_id))
        if call.method == "GET":
            return self._shown(task_id, response, 200, writes=False)
        explain(holds=(response.status_code, response.content) == (200, b""), otherwise="not a 200 without a body")
        explain(holds=response.headers["ETag"] == self.etag(task_id), otherwise="the ETag is not the task's")
        return self

    def _after_write(self, call: Call, task_id: int, response: httpx2.Response) -> "Model":
        if not self._is_due(call, task_id):
            self._failed(response, 412)
            explain(holds=response.headers["ETag"] == self.etag(task_id), otherwise="the 412 has another ETag")
            explain(holds=response.json()["current"] == self.tasks[task_id], otherwise="the 412 shows another task")
            return self
        if call.method == "DELETE":
            return self._after_delete(task_id, response)
        old = self.tasks[task_id]
        was = (old["title"], old["description"], old["complete"])
        values = _changed(was if call.method == "PATCH" else (was[0], None, was[2]), call.body or {})
        if values == was:
            return self._shown(task_id, response, 200)
        explain(holds=response.status_code == 200, otherwise="the status is not 200")
        task: Json = response.json()
        kept = all(task[name] == old[name] for name in ("id", "user_id", "created_at"))
        explain(holds=kept, otherwise="a read-only member changed")
        explain(holds=_time(task["updated_at"]) > _time(old["updated_at"]), otherwise="updated_at did not rise")
        return self._written(task, values)._shown(task_id, response, 200)

    def _after_delete(self, task_id: int, response: httpx2.Response) -> "Model":
        explain(holds=(response.status_code, response.content) == (204, b""), otherwise="not a 204 without a body")
        revision = self.revision + 1
        explain(holds=response.headers["Taskwell-Revision"] == str(revision), otherwise="the revision is wrong")
        tasks = {number: task for number, task in self.tasks.items() if number != task_id}
        return replace(self, revision=revision, tasks=tasks, deleted=(*self.deleted, task_id))

    def _is_due(self, call: Call, task_id: int) -> bool:
        etag = self.etag(task_id)
        if call.if_match and not call.if_match.matches_strongly(etag):
            return False
        return not (call.if_none_match and call.if_none_match.matches_weakly(etag))

    # --- lists

    def _after_list(self, call: Call, response: httpx2.Response) -> "Model":
        condition = call.if_none_match
        current = [tag for tag, state in self.list_tags.get(call.path, {}).items() if state == self.state]
        matches = condition is not None and (condition.is_any or any(map(condition.matches_weakly, current)))
        if response.status_code == 304:
            explain(holds=matches, otherwise="the list has changed since it had this tag")
            return self._not_modified(response, *current)
        explain(holds=response.status_code == 200, otherwise="the status is not 200")
        # Of several tags, the service looks only at the latest, which may be one from before an erasure.
        unneeded = matches and condition is not None and len(condition.tags) < 2
        explain(holds=not unneeded, otherwise="the list has not changed since it had this tag")
        explain(holds=response.headers["ETag"].startswith('W/"'), otherwise="a list's ETag is not weak")
        return self._listed(call, response)

    def _listed(self, call: Call, response: httpx2.Response) -> "Model":
        page = self.page(call.query, call.after)
        shown = {"tasks": page.tasks, "count": page.total}
        explain(holds=response.json() == shown, otherwise=f"the list is not {shown}")
        explain(holds=(next_path(response) is not None) == page.has_next, otherwise="the Link is wrong")
        return _of_tasks(self, response)

    # --- responses

    def _written(self, task: Json, values: Values) -> "Model":
        explain(holds=set(task) == MEMBERS, otherwise="a task has other members")
        shown = (task["title"], task["description"], task["complete"])
        explain(holds=shown == values, otherwise=f"the values are not {values}")
        revision = self.revision + 1
        tasks, revisions = {**self.tasks, task["id"]: task}, {**self.revisions, task["id"]: revision}
        return replace(self, revision=revision, tasks=tasks, revisions=revisions)

    def _shown(self, task_id: int, response: httpx2.Response, status: int, *, writes: bool = True) -> "Model":
        task, revision = self.tasks[task_id], str(self.revisions[task_id])
        explain(holds=response.status_code == status, otherwise=f"the status is not {status}")
        explain(holds=response.json() == task, otherwise=f"the task is not {task}")
        explain(holds=response.headers["ETag"] == self.etag(task_id), otherwise=f"the ETag is not {self.etag(task_id)}")
        said = response.headers.get("Taskwell-Revision")
        explain(holds=said == (revision if writes else None), otherwise=f"the revision is not {revision}")
        return _of_tasks(self, response)

    def _not_modified(self, response: httpx2.Response, *etags: str) -> "Model":
        explain(holds=(response.status_code, response.content) == (304, b""), otherwise="not a 304 without a body")
        known = not etags or response.headers["ETag"] in etags
        explain(holds=known, otherwise="the 304 has another ETag")
        return _of_tasks(self, response)

    def _failed(self, response: httpx2.Response, status: int) -> "Model":
        explain(holds=response.status_code == status, otherwise=f"the status is not {status}")
        explain(holds="Taskwell-Revision" not in response.headers, otherwise="an error has a revision")
        explain(holds=response.headers["Cache-Control"] == "no-store", otherwise="an error may be cached")
        code = response.json()["error_code"] if response.content else ERRORS[status]
        explain(holds=code == ERRORS[status], otherwise="the error_code is wrong")
        return self


def _changed(values: Values, members: Json) -> Values:
    title, description, complete = values
    return (
        members.get("title", title).strip(),
        members.get("description", description),
        members.get("complete", complete),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _of_tasks(model: Model, response: httpx2.Response) -> Model:
    caching = (response.headers.get("Cache-Control"), response.headers.get("Vary"))
    explain(holds=caching == ("private, no-cache", "Authorization"), otherwise="caches may keep it")
    return model


def next_path(response: httpx2.Response) -> str | None:
    """Returns the query of the next page's URL."""
    url = response.links.get("next", {}).get("url")
    return f"?{url.partition('?')[2]}" if url else None


# --- concurrent calls

Exchange = tuple[Call, httpx2.Response]


def in_some_order(model: Model, exchanges: Sequence[Exchange]) -> Model:
    """Returns the model after concurrent calls, in an order that explains all their responses.

    Raises:
        Unexplained: there is no such order.
    """
    if not exchanges:
        return model
    reasons = []
    for place, exchange in enumerate(exchanges):
        rest = [*exchanges[:place], *exchanges[place + 1 :]]
        try:
            after = model.after(*exchange)
        except Unexplained as reason:
            reasons.append(f"{described(*exchange)}: {reason}")
            continue
        if after is model:
            # It changes nothing, so an order that explains the others does so with this one in front.
            return in_some_order(model, rest)
        try:
            return in_some_order(after, rest)
        except Unexplained as reason:
            reasons.append(str(reason))
    raise Unexplained("\n".join(reasons))


def described(call: Call, response: httpx2.Response) -> str:
    shown = response.text if response.content else ""
    return f"{call.method} {call.path} {call.body} {call.headers} -> {response.status_code} {dict(response.headers)} {shown}"
