"""Clients that use every kind of write, repeat what they may repeat, and record what becomes of it in a ledger."""

from collections.abc import Sequence
from itertools import count

import httpx2

from support.callers import Caller
from support.ledger import Kind, Write
from support.service import Json

LIVE_TASKS = 12
"""The writers delete more than they create when there are more. So they often want the same task."""

IMPATIENT = 0.05
"""The share of writes whose client is gone before the response arrives."""

GONE = httpx2.Timeout(15, read=0.002)


def revision_in(response: httpx2.Response) -> int:
    """Returns the revision of the task in a response, or that of a deletion."""
    return int(
        response.headers["etag"].strip('"') if "etag" in response.headers else response.headers["taskwell-revision"]
    )


class Writer(Caller):
    """Writes until it is told to stop, one request after the other. Writers may share their tasks."""

    revision = 0

    def write(self, name: str) -> None:
        """Writes. All labels begin with `name`."""
        self._labels = (f"{name}-{number}" for number in count())
        while not self.stop.wait(self.random.uniform(0, 0.03)):
            crowded = len(self.ledger.live()) > LIVE_TASKS
            actions = [self._create, self._patch, self._patch, self._put, self._delete, self._restore, self._batch]
            self.random.choice([*actions, *([self._delete] * 2 if crowded else [self._create] * 2)])()

    def write_last(self) -> int:
        """Writes until a write is acknowledged, and returns its revision."""
        before = self.revision
        while self.revision == before:
            self._create()
        return self.revision

    # --- one write each

    def _create(self) -> None:
        write = self._begin("create")
        body = {"title": write.label, "description": write.label}
        while not (response := self._send(write, "POST", "", 201, 410, json=body, key=write.label)):
            pass
        if response.status_code == 201 and "idempotency-replayed" not in response.headers:
            self._acknowledge(write, revision_in(response), response.json())
        else:
            # 410: another writer has found the task and deleted it.
            write.fate = "happened"
            self._tell(response)

    def _patch(self) -> None:
        self._change("PATCH", {"complete": self.random.random() < 0.5})

    def _put(self) -> None:
        self._change("PUT", {"complete": self.random.random() < 0.5})

    def _change(self, method: str, members: Json) -> None:
        if not (found := self._any_task()):
            return
        task_id, (base, task) = found
        write = self._begin("change", task_id, base)
        body = {"title": write.label, **members}
        if method == "PUT":
            body["description"] = task["description"]
        while True:
            response = self._send(write, method, task_id, 200, 404, 412, json=body, base=base)
            if response:
                break
            # Look first, as a client does. If the task is as it was, it is safe to send the change again.
            seen = self._read(task_id)
            if seen.status_code != 200 or revision_in(seen) != base:
                self._decide(write, seen)
                return
        if response.status_code == 200:
            self._acknowledge(write, revision_in(response), response.json())
        else:
            self._decide(write, response)

    def _decide(self, write: Write, response: httpx2.Response) -> None:
        """Decides from a read, or from a refusal, whether a change happened."""
        self._tell(response)
        task = response.json().get("current", response.json())
        if task.get("title") == write.label:
            assert write.lost, f"a change that happened was refused: {write}"
            self._acknowledge(write, revision_in(response), task)
        elif not write.lost:
            write.fate = "refused"

    def _delete(self) -> None:
        if not (found := self._any_task()):
            return
        task_id, (base, _) = found
        write = self._begin("delete", task_id, base)
        while not (response := self._send(write, "DELETE", task_id, 204, 404, 412, base=base)):
            pass
        if response.status_code == 204:
            self._acknowledge(write, int(response.headers["taskwell-revision"]), None)
            return
        self._tell(response)
        if not write.lost:
            write.fate = "refused"

    def _restore(self) -> None:
        if (task_id := self.ledger.deleted(self.random)) is None:
            return
        while True:
            # Each attempt may restore the task, if another writer deletes it in between.
            write = self._begin("restore", task_id)
            path = f"{self.client.home.removesuffix('tasks')}trash/{task_id}/restore"
            if response := self._send(write, "POST", path, 200):
                write.fate = "happened"
                self._tell(response)
                return

    # --- batches

    def _batch(self) -> None:
        targets = list(self.ledger.live().items())
        self.random.shuffle(targets)
        writes = [self._begin("create") for _ in range(self.random.randint(1, 3))]
        writes += [
            self._begin(self.random.choice(("change", "delete")), task_id, base)
            for task_id, (base, _) in targets[: self.random.randint(0, 3)]
        ]
        self.random.shuffle(writes)
        self.ledger.batches.append(writes)
        body = {"operations": [_operation(write) for write in writes]}
        while not (response := self._send(writes[0], "POST", "batch", 200, 404, 410, 412, json=body)):
            pass
        lost = writes[0].lost
        if response.status_code == 200:
            self._record(writes, response, lost=lost)
        else:
            self._decide_batch(writes, response, lost=lost)

    def _record(self, writes: Sequence[Write], response: httpx2.Response, *, lost: bool) -> None:
        highest = int(response.headers["taskwell-revision"])
        for write, result in zip(writes, response.json()["results"], strict=True):
            task = result["task"]
            if task is None:
                # Perhaps another writer has deleted it: then there is nothing to do, whatever `if_match` says.
                write.fate = "happened"
                continue
            revision = int(task["etag"].strip('"'))
            assert revision <= highest
            if write.kind == "create" and lost:
                # Perhaps a replay.
                write.fate = "happened"
                self.ledger.tell(revision, task["id"], task)
            else:
                self._acknowledge(write, revision, task)

    def _decide_batch(self, writes: Sequence[Write], response: httpx2.Response, *, lost: bool) -> None:
        failed = writes[response.json()["errors"][0]["loc"][2]]
        current = response.json().get("current")
        happened = response.status_code == 410 or (current is not None and current["title"] == failed.label)
        assert lost or not happened, f"a batch that happened was refused: {writes}"
        if current:
            self.ledger.tell(int(response.headers["etag"].strip('"')), current["id"], current)
        for write in writes:
            if happened or not lost:
                write.fate = "happened" if happened else "refused"

    # --- what they share

    def _begin(self, kind: Kind, task_id: int | None = None, base: int | None = None) -> Write:
        return self.ledger.begin(Write(next(self._labels), kind, task_id, base))

    def _any_task(self) -> tuple[int, tuple[int, Json]] | None:
        live = list(self.ledger.live().items())
        return self.random.choice(live) if live else None

    def _send(
        self,
        write: Write,
        method: str,
        path: str | int,
        *statuses: int,
        key: str | None = None,
        base: int | None = None,
        **options: object,
    ) -> httpx2.Response | None:
        headers = {"Idempotency-Key": key} if key else {"If-Match": f'"{base}"'} if base else {}
        if self.random.random() < IMPATIENT:
            options["timeout"] = GONE
        response = self.call(method, path, *statuses, headers=headers, **options)
        write.lost |= response is None
        return response

    def _read(self, task_id: int) -> httpx2.Response:
        while not (response := self.call("GET", task_id, 200, 404)):
            pass
        return response

    def _tell(self, response: httpx2.Response) -> None:
        if "etag" in response.headers:
            task = response.json().get("current", response.json())
            self.ledger.tell(revision_in(response), task["id"], task)

    def _acknowledge(self, write: Write, revision: int, task: Json | None) -> None:
        assert revision > self.revision, f"revision {revision} was acknowledged after {self.revision}"
        self.revision = revision
        self.ledger.acknowledge(write, revision, task)


def _operation(write: Write) -> Json:
    if write.kind == "create":
        return {"op": "create", "key": write.label, "task": {"title": write.label, "description": write.label}}
    target = {"id": write.task_id, "if_match": f'"{write.base}"'}
    if write.kind == "delete":
        return {"op": "delete", **target}
    return {"op": "patch", **target, "task": {"title": write.label}}
