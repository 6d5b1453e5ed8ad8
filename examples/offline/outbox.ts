// What the user sees, and the queue of writes. Nothing here uses the network.

import type { App, Problem, Shown, State, Task, Values, Write } from "./types";

/** Returns the state of a device that starts, from what it saved last. */
export function restored(saved: State | undefined): State {
  if (saved?.outbox.length) return saved;
  // Nothing names a local id or ETag any more.
  return { tasks: new Map(), since: null, ...saved, outbox: [], ids: new Map(), etags: new Map() };
}

/** Returns a write with a key of its own. The key is also the local ETag of the version that it makes. */
export function newWrite(op: Write["op"], seen: Shown, task: Partial<Values>): Write {
  const key = crypto.randomUUID();
  return { op, key, task, seen, shown: op === "delete" ? null : { ...seen, ...task, etag: `"${key}"` } };
}

/** Returns a task that no service has seen. Its local id is negative. */
export function newTask(task: Values): Shown {
  return { ...task, id: -Math.ceil(Math.random() * Number.MAX_SAFE_INTEGER), etag: "" };
}

/** Returns the tasks with the user's own writes on top. */
export function view(state: State): Map<number, Shown> {
  const tasks = new Map<number, Shown>(state.tasks);
  for (const { seen, shown } of state.outbox) {
    const id = realId(state, seen);
    if (shown) tasks.set(id, { ...shown, id });
    else tasks.delete(id);
  }
  return tasks;
}

/** Returns the next writes to send. A second write to the same task waits, because it needs the result of the first. */
export function nextBatch(state: State, size: number): Write[] {
  const waiting = state.outbox.filter(({ revision }) => revision === undefined).slice(0, size);
  const ids = waiting.map(({ seen }) => realId(state, seen));
  const repeated = ids.findIndex((id, index) => ids.indexOf(id) < index);
  return repeated < 0 ? waiting : waiting.slice(0, repeated);
}

/** Returns the write as an operation of a batch. */
export function operation(state: State, { op, key, seen, task }: Write) {
  if (op === "create") return { op, key, task };
  const target = { id: realId(state, seen), if_match: state.etags.get(seen.etag) ?? seen.etag };
  return op === "delete" ? { op, ...target } : { op, ...target, task };
}

/** Notes the result of a write. The user keeps seeing it until the copy contains it. */
export function finish(state: State, write: Write, task: Task | null | undefined, revision: number): void {
  if (task && write.shown) {
    state.ids.set(write.seen.id, task.id);
    // A repeated `create` returns the task as it is now. If another device has changed it, the user has not seen this
    // version. So it gets no name, and the user's next write to the task gets 412.
    const isAsShown = write.op !== "create" || task.updated_at === task.created_at;
    if (isAsShown) state.etags.set(write.shown.etag, task.etag);
  }
  Object.assign(write, { shown: task ?? null, revision });
}

/** Replaces a refused write by what the app wants instead, or drops it. */
export function refuse(app: App, state: State, write: Write, problem: Problem): void {
  const { current } = problem;
  if (current && write.shown && isSame(current, write.shown)) {
    // It was done before, and the response was lost.
    return finish(state, write, current, 0);
  }
  const task = app.refused(write, problem);
  const changed = task ? [newWrite(write.op, current ?? write.seen, task)] : [];
  state.outbox.splice(state.outbox.indexOf(write), 1, ...changed);
}

function realId(state: State, { id }: Shown): number {
  return state.ids.get(id) ?? id;
}

function isSame(a: Values, b: Values): boolean {
  return a.title === b.title && a.description === b.description && a.complete === b.complete;
}
