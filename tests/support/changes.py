"""A client's copy of a user's tasks, kept up to date by `/changes` alone."""

from dataclasses import dataclass, field

import httpx2

from support.service import Client, Json


def changes(client: Client, **query: object) -> httpx2.Response:
    return client.request("GET", f"/api/{client.user}/changes", params=query)


@dataclass
class Copy:
    """A client's copy of the tasks, and its token. A later page wins."""

    client: Client
    limit: int = 1000
    since: str | None = None
    revision: int = 0
    tasks: dict[int, Json] = field(default_factory=dict)
    deleted: dict[int, str] = field(default_factory=dict)

    def pull(self) -> Json:
        """Fetches one page, and takes it."""
        token = {} if self.since is None else {"since": self.since}
        response = changes(self.client, limit=self.limit, **token)
        assert response.status_code == 200, response.text
        return self.take(response.json())

    def take(self, page: Json) -> Json:
        """Checks what holds for every page, and applies it."""
        assert page.keys() == {"tasks", "deleted", "since", "revision", "has_more"}
        ids = [one["id"] for one in page["tasks"] + page["deleted"]]
        revisions = [int(task["etag"].strip('"')) for task in page["tasks"]]
        assert len(ids) == len(set(ids)) <= self.limit
        assert revisions == sorted(revisions)
        assert all(self.revision < revision <= page["revision"] for revision in revisions)
        assert page["revision"] > self.revision or (not ids and page["revision"] == self.revision)
        if page["has_more"]:
            assert len(ids) == self.limit
        self._apply(page)
        return page

    def sync(self) -> int:
        """Fetches pages until there are no more, and returns their number."""
        pages = 1
        while self.pull()["has_more"]:
            pages += 1
        return pages

    def listed(self) -> list[Json]:
        """Returns the tasks of this copy as a list shows them: newest first, without `etag`."""
        newest_first = sorted(self.tasks.items(), reverse=True)
        return [{name: value for name, value in task.items() if name != "etag"} for _, task in newest_first]

    def _apply(self, page: Json) -> None:
        for task in page["tasks"]:
            self.tasks[task["id"]] = task
            self.deleted.pop(task["id"], None)
        for one in page["deleted"]:
            self.deleted[one["id"]] = one["deleted_at"]
            self.tasks.pop(one["id"], None)
        self.since, self.revision = page["since"], page["revision"]
