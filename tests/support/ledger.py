"""The record of a run in which servers die: what the clients of one user sent, and what they were told.

Every write carries a label of its own: a change sets it as the title, and a creation also as the description, which no
later write changes. So each state of a task names the write that made it.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

from support.service import Json

Kind = Literal["create", "change", "delete", "restore"]
Fate = Literal["open", "acknowledged", "happened", "refused"]
"""The state of a write. Open: nobody knows if it happened. Acknowledged: it happened, with a known revision. Happened: its
revision is not known. Refused: it did not happen.

A restore that was acknowledged counts as happened, because perhaps there was nothing to restore.
"""


class State(NamedTuple):
    """A task after one of its changes. `task` is None if it is deleted."""

    task_id: int
    task: Json | None


@dataclass
class Write:
    """A write, sent once or several times. `base` is the revision in its `If-Match`."""

    label: str
    kind: Kind
    task_id: int | None = None
    base: int | None = None
    fate: Fate = "open"
    revision: int | None = None
    lost: bool = False


@dataclass
class Ledger:
    """All writes, and the state behind each revision that anyone was told of. Threads share it."""

    writes: dict[str, Write] = field(default_factory=dict)
    batches: list[Sequence[Write]] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # --- during the run

    def begin(self, write: Write) -> Write:
        """Notes a write before it is sent."""
        with self._lock:
            self.writes[write.label] = write
        return write

    def tell(self, revision: int, task_id: int, task: Json | None) -> None:
        """Notes what a revision is. Everyone must be told the same."""
        task = task and {name: value for name, value in task.items() if name not in {"etag", "deleted_at"}}
        with self._lock:
            told = self.states.setdefault(revision, State(task_id, task))
            assert told == State(task_id, task), f"revision {revision} was told twice, differently"
            self.latest[task_id] = max(revision, self.latest.get(task_id, 0))

    def acknowledge(self, write: Write, revision: int, task: Json | None) -> None:
        """Notes that a write made this revision. There is no task if it was deleted."""
        with self._lock:
            write.task_id = task["id"] if task else write.task_id
            assert write.task_id is not None
            self.tell(revision, write.task_id, task)
            write.fate, write.revision = "acknowledged", revision

    def live(self) -> dict[int, tuple[int, Json]]:
        """Returns the tasks that exist, as far as anyone knows: the revision and the task by id."""
        with self._lock:
            known = {task_id: (revision, self.states[revision].task) for task_id, revision in self.latest.items()}
            return {task_id: (revision, task) for task_id, (revision, task) in known.items() if task}

    def deleted(self, random: Random) -> int | None:
        """Returns one of the tasks that were deleted last."""
        with self._lock:
            states = [self.states[revision] for revision in sorted(self.latest.values())[-200:]]
        ids = [state.task_id for state in states if state.task is None]
        return random.choice(ids[-10:]) if ids else None

    def floor(self) -> dict[int, State]:
        """Returns the latest known state of each task. Who asks now is told of it, or of a later one."""
        with self._lock:
            return {task_id: self.states[revision] for task_id, revision in self.latest.items()}

    def check_view(self, floor: Mapping[int, State], tasks: Mapping[int, Json]) -> None:
        """Asserts that the tasks that a client was shown are not older than `floor`."""
        deleting, restoring = self._attempted("delete"), self._attempted("restore")
        for task_id, (_, known) in floor.items():
            shown = tasks.get(task_id)
            if known is None:
                assert shown is None or task_id in restoring, f"task {task_id} is deleted, and is shown: {shown}"
            elif shown is None:
                assert task_id in deleting, f"task {task_id} is not shown: {known}"
            else:
                assert shown["updated_at"] >= known["updated_at"], f"an old state is shown: {shown}, not {known}"

    def _attempted(self, kind: str) -> set[int | None]:
        with self._lock:
            return {write.task_id for write in self.writes.values() if write.kind == kind}

    # --- at the end

    def faults(self, revision: int, live: Mapping[int, Json], trash: Mapping[int, Json]) -> list[object]:
        """Returns what contradicts the promises, once nobody writes any more and the user has this revision."""
        final = {**live, **trash}
        for task_id, task in final.items():
            self.tell(int(task["etag"].strip('"')), task_id, None if "deleted_at" in task else task)
        return [
            *self._lost(final),
            *self._doubled(revision),
            *self._unexplained(),
            *self._wrong_number_of_tasks(final),
            *self._torn_batches(final),
        ]

    def _lost(self, final: Mapping[int, Json]) -> list[object]:
        # If the final state is of a later revision, `_unexplained` looks for the write that made it.
        current = {task_id: int(task["etag"].strip('"')) for task_id, task in final.items()}
        return [
            ("lost", write)
            for write in self.writes.values()
            if write.fate == "acknowledged" and current.get(write.task_id or 0, 0) < (write.revision or 0)
        ]

    def _doubled(self, revision: int) -> list[object]:
        acknowledged = [write for write in self.writes.values() if write.fate == "acknowledged"]
        revisions = Counter(write.revision for write in acknowledged)
        bases = Counter(write.base for write in acknowledged if write.base)
        twice = [*(revisions - Counter(set(revisions))), *(bases - Counter(set(bases)))]
        possible = [write for write in self.writes.values() if write.fate in {"open", "happened"}]
        unclaimed = revision - len(revisions)
        return [
            *[("two writes were acknowledged for, or based on", one) for one in twice],
            *([("more revisions than writes", unclaimed, len(possible))] if unclaimed > len(possible) else []),
            *([("revisions above the last", max(self.states), revision)] if max(self.states) > revision else []),
        ]

    def _unexplained(self) -> list[object]:
        """Returns states that no write has made, and writes that have made more than one."""
        possible: defaultdict[tuple[str, int | None], int] = defaultdict(int)
        for write in self.writes.values():
            possible[write.kind, write.task_id] += write.fate != "refused"
        made: defaultdict[tuple[int, str | None], int] = defaultdict(int)
        for task_id, task in self.states.values():
            made[task_id, None if task is None else task["title"]] += 1
        return [
            ("made more often than sent", task_id, label, times)
            for (task_id, label), times in made.items()
            if times > self._possible(task_id, label, possible)
        ]

    def _possible(self, task_id: int, label: str | None, possible: Mapping[tuple[str, int | None], int]) -> int:
        if label is None:
            return possible["delete", task_id]
        write = self.writes.get(label)
        if write is None or write.fate == "refused" or write.task_id not in {None, task_id}:
            return 0
        # A restored task has the title that it had before.
        return 1 + possible["restore", task_id]

    def _wrong_number_of_tasks(self, final: Mapping[int, Json]) -> list[object]:
        number = Counter(task["description"] for task in final.values())
        allowed: dict[Fate, set[int]] = {"open": {0, 1}, "refused": {0}, "happened": {1}, "acknowledged": {1}}
        return [
            ("tasks of one key", number[write.label], write)
            for write in self.writes.values()
            if write.kind == "create" and number[write.label] not in allowed[write.fate]
        ]

    def _torn_batches(self, final: Mapping[int, Json]) -> list[object]:
        keys = {task["description"] for task in final.values()}
        return [
            ("torn", batch)
            for batch in self.batches
            if len({write.label in keys for write in batch if write.kind == "create"}) > 1
        ]
