"""Clients that only read while the servers die: a copy by `/changes`, a list with 304s, and a copy by `/events`."""

import json
import time
from base64 import urlsafe_b64decode

from support.callers import PAUSE_SECONDS, Caller
from support.changes import Copy
from support.events import Event, Stream, open_stream
from support.service import Json
from taskwell.auth.tokens import UserId
from taskwell.tasks.sync_tokens import state_of

PAGE = 20


class ChangesReader(Caller):
    """Keeps a copy by `/changes`. It never begins again, because no token becomes invalid."""

    def follow(self) -> None:
        self.copy = Copy(self.client, limit=PAGE)
        while not self.stop.wait(self.random.uniform(0, 0.1)):
            self.sync()

    def sync(self) -> None:
        """Reads all that is new, and checks that nothing is missing that was told before."""
        while True:
            floor = self.ledger.floor()
            query = {"limit": PAGE} | ({"since": self.copy.since} if self.copy.since else {})
            if response := self.call("GET", f"/api/{self.client.user}/changes", 200, params=query):
                page = self.copy.take(response.json())
                for task in page["tasks"]:
                    self.ledger.tell(int(task["etag"].strip('"')), task["id"], task)
                if not page["has_more"]:
                    break
        self.ledger.check_view(floor, self.copy.tasks)


class ListReader(Caller):
    """Reads the list again and again, if it has changed."""

    etag = ""
    tasks: tuple[Json, ...] = ()

    def follow(self) -> None:
        while not self.stop.wait(self.random.choice((0, 0.1))):
            self.read()

    def read(self) -> None:
        """Reads the list. After a 304, checks that the list that it has is not too old."""
        floor = self.ledger.floor()
        headers = {"If-None-Match": self.etag} if self.etag else {}
        while not (response := self.call("GET", "", 200, 304, params={"limit": 1000}, headers=headers)):
            pass
        if response.status_code == 200:
            self.etag, self.tasks = response.headers["etag"], tuple(response.json()["tasks"])
            assert response.json()["count"] == len(self.tasks)
        assert response.headers["etag"] == self.etag
        self.ledger.check_view(floor, {task["id"]: task for task in self.tasks})


class StreamReader(Caller):
    """Keeps a copy by `/events` alone. It connects again after each interruption."""

    last_id: str | None = None
    revision = 0
    has_begun = False

    def follow(self) -> None:
        self.tasks: dict[int, Json] = {}
        while not self.stop.is_set():
            try:
                with open_stream(self.client, self.last_id) as opened:
                    self._follow(opened)
            except OSError:
                self._pause("not sent")

    def _follow(self, opened: Stream) -> None:
        while not self.stop.is_set():
            self.has_begun |= opened.last_id is not None
            # In this order: what arrived before the end is in the queue.
            ended = opened.ended.is_set()
            for event in opened.waiting():
                self._apply(event)
            if ended:
                break
            time.sleep(PAUSE_SECONDS / 5)
        # Perhaps there was no event, but the token of the beginning.
        self.last_id = opened.last_id or self.last_id
        self._pause(f"stream {opened.status}")
        if opened.body:
            error = (opened.status, json.loads(opened.body)["error_code"])
            assert error in {(500, "DATABASE_ERROR"), (503, "OVERLOADED")}, error

    def _apply(self, event: Event) -> None:
        assert event.name in {"task", "deleted"}, event
        revision = state_of(UserId(self.client.user), urlsafe_b64decode(event.id or "")).revision
        assert revision > self.revision, f"the stream tells of {revision} after {self.revision}: {event}"
        self.counts["events"] += 1
        if event.name == "task":
            assert event.data["etag"] == f'"{revision}"'
            self.tasks[event.data["id"]] = event.data
        else:
            self.tasks.pop(event.data["id"], None)
        self.ledger.tell(revision, event.data["id"], event.data if event.name == "task" else None)
        self.revision = revision
