// The stored copy of the service's tasks. Only what the service tells of changes it.

import type { Changes } from "../changes.js";
import type { Copy } from "./model.js";
import { copyOf, got, outboxOf, type Store } from "./store.js";

export function currentCopy(store: Store): Promise<Copy> {
  return store.read(copyOf);
}

/**
 * Applies changes to the copy that has the checkpoint `from`, and removes the writes that they contain.
 *
 * Returns "wait" if it is not known which of the changes are this device's own creations, and "stale" if another tab
 * has moved the copy.
 */
export function applyChanges(
  store: Store,
  from: string | null,
  { reset, tasks, deleted, since, revision }: Changes,
): Promise<"applied" | "wait" | "stale"> {
  return store.change(async (stores) => {
    const outbox = await outboxOf(stores);
    if ((await copyOf(stores)).since !== from) return "stale";
    if (outbox.some(({ op, sent, done }) => op === "create" && sent && !done)) return "wait";
    if (reset) await got(stores.tasks.clear());
    for (const task of tasks) {
      const known = outbox.find((write) => (write.done?.task ?? write.base)?.id === task.id);
      const stored = await got<{ key: string } | undefined>(stores.tasks.get(task.id));
      const { key } = known ?? stored ?? { key: String(task.id) };
      await got(stores.tasks.put({ id: task.id, key, task }));
    }
    for (const { id } of deleted) await got(stores.tasks.delete(id));
    // After the account was erased or restored, the revisions of before mean nothing.
    const isAnew = reset && from !== null;
    for (const { n, done } of outbox) {
      if (done && (isAnew || done.revision <= revision)) await got(stores.outbox.delete(n));
    }
    await got(stores.facts.put({ since, revision }, "copy"));
    return "applied";
  });
}
