// The writes that the service does not have yet, in their order.
//
// A task has at most two of them that are not done: one that may have been sent, and one that collects what the user
// has written since.

import { ApiError } from "../errors.js";
import { newKey } from "../retry.js";
import type { BatchResult, Operation, VersionedTask } from "../types.js";
import type { Stored, Write } from "./model.js";
import { copyOf, got, outboxOf, type Store, type Stores } from "./store.js";

export type Edit = Pick<Write, "key" | "op" | "values">;

/** Stores what the user has written: all of it, or nothing. */
export function enqueue(store: Store, edits: readonly Edit[]): Promise<void> {
  return store.change(async (stores) => {
    for (const edit of edits) await add(stores, edit);
  });
}

async function add(stores: Stores, edit: Edit): Promise<void> {
  const last = (await outboxOf(stores)).filter(({ key }) => key === edit.key).at(-1);
  if (last && !last.sent) return collect(stores, last, edit);
  const base = last ? latest(last) : await storedTask(stores, edit.key);
  // The task is gone, on this device and in the service.
  if (!last && !base && edit.op !== "create") return;
  const at = new Date().toISOString();
  await got(stores.outbox.add({ ...edit, at, base, idempotencyKey: newKey(), sent: false, done: null }));
}

/** Adds an edit to a write that the service has never seen. */
async function collect({ outbox }: Stores, write: Write, { op, values }: Edit): Promise<void> {
  const isUnknown = write.op === "create";
  if (op === "delete" && isUnknown) await got(outbox.delete(write.n));
  else if (op === "delete") await got(outbox.put({ ...write, op, values }));
  // If it was a deletion, the user has taken it back.
  else await got(outbox.put({ ...write, op: isUnknown ? "create" : "patch", values: { ...write.values, ...values } }));
}

/** Returns the next writes to send, at most one for each task, and marks them as sent. */
export function take(store: Store, size: number): Promise<Write[]> {
  return store.change(async (stores) => {
    const busy = new Set<string>();
    const waiting = (await outboxOf(stores)).filter(({ done }) => !done);
    const first = waiting.filter(({ key }) => !busy.has(key) && busy.add(key)).slice(0, size);
    for (const write of first) if (!write.sent) await got(stores.outbox.put({ ...write, sent: true }));
    return first;
  });
}

export function operationOf({ op, values, base, idempotencyKey }: Write): Operation {
  if (op === "create") return { op, task: { title: "", ...values }, key: idempotencyKey };
  const { id = 0, etag = "" } = base ?? {};
  return op === "delete" ? { op, id, if_match: etag } : { op, id, if_match: etag, task: values };
}

/** Notes that the service has carried out these writes. */
export function finish(store: Store, writes: readonly Write[], { results, revision }: BatchResult): Promise<void> {
  return store.change(async (stores) => {
    const [copy, outbox] = [await copyOf(stores), await outboxOf(stores)];
    for (const [index, { n, key }] of writes.entries()) {
      const [write, next] = outbox.filter((each) => each.key === key && each.n >= n);
      // Another tab has led meanwhile.
      if (write?.n !== n || write.done) continue;
      const done = { task: results[index]?.task ?? null, revision };
      if (next) await got(stores.outbox.put({ ...next, base: done.task }));
      if (copy.revision >= revision) await got(stores.outbox.delete(n));
      else await got(stores.outbox.put({ ...write, done }));
    }
  });
}

/** Takes out a write that the service refuses, so that the next ones can go on. */
export function refuse(store: Store, { n, key, op, values }: Write, error: Error): Promise<void> {
  const { code, violations } = error instanceof ApiError ? error : { code: undefined, violations: [] };
  return store.change(async (stores) => {
    const [write, next] = (await outboxOf(stores)).filter((each) => each.key === key && each.n >= n);
    if (write?.n !== n) return;
    await got(stores.outbox.delete(n));
    // Without its creation, the next one has nothing to change.
    const dropped = op === "create" && next ? next : undefined;
    if (dropped) await got(stores.outbox.delete(dropped.n));
    const lost = { ...values, ...dropped?.values };
    await got(stores.refused.put({ n, key, op, values: lost, message: error.message, code, violations }));
  });
}

/** Replaces a write by one for the version that the service has now. */
export function replace(store: Store, write: Write): Promise<void> {
  return store.change(async (stores) => {
    const isThere = (await outboxOf(stores)).some(({ n, done }) => n === write.n && !done);
    if (isThere) await got(stores.outbox.put(write));
  });
}

/** Notes that the service has certainly not carried out these writes. So they can be changed again. */
export function release(store: Store, writes: readonly Write[]): Promise<void> {
  return store.change(async (stores) => {
    const outbox = await outboxOf(stores);
    for (const { n } of writes) {
      const write = outbox.find((each) => each.n === n && !each.done);
      if (write) await got(stores.outbox.put({ ...write, sent: false }));
    }
  });
}

/** Returns the version that the user sees after a write, as far as it is known. */
function latest({ done, base }: Write): VersionedTask | null {
  return done ? done.task : base;
}

async function storedTask({ tasks }: Stores, key: string): Promise<VersionedTask | null> {
  const stored = await got<Stored | undefined>(tasks.index("key").get(key));
  return stored?.task ?? null;
}
