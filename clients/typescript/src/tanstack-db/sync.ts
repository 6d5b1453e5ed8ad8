// The work of the leading tab: it sends the outbox, and follows the changes.

import { sleep } from "../abort.js";
import { failedOperation } from "../batch.js";
import type { TaskwellClient } from "../client.js";
import { ApiError, PreconditionFailed } from "../errors.js";
import { pause } from "../retry.js";
import type { Bell } from "./bell.js";
import { applyChanges, currentCopy } from "./copy.js";
import { rebased, type Merge } from "./merge.js";
import type { Status, Write } from "./model.js";
import { finish, operationOf, refuse, release, replace, take } from "./outbox.js";
import { setStatus, type Store } from "./store.js";

const MAX_OPERATIONS = 100;

export type Session = { client: TaskwellClient; user: string; store: Store; bell: Bell; merge: Merge };

/** Keeps the store and the service in step until the signal ends it. */
export async function syncWhile(session: Session, signal: AbortSignal): Promise<void> {
  const { client, bell } = session;
  const tell = (online: boolean) => void report(session, online ? { online, error: null } : { online });
  const offline = () => tell(false);
  const unlisten = client.onConnection(tell);
  // Only browsers have these events.
  globalThis.addEventListener?.("offline", offline);
  globalThis.addEventListener?.("online", bell.ring);
  try {
    await Promise.all([repeated(session, signal, send), repeated(session, signal, follow)]);
  } finally {
    unlisten();
    globalThis.removeEventListener?.("offline", offline);
    globalThis.removeEventListener?.("online", bell.ring);
  }
}

/** Calls `work` again and again. After an error, it waits. */
async function repeated(
  session: Session,
  signal: AbortSignal,
  work: (session: Session, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    try {
      await work(session, signal);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      await report(session, { error: String(error) });
      await untilOnline(pause(failures++, error), signal);
    }
  }
}

/** Sends what is in the outbox, or waits until there is something. */
async function send(session: Session, signal: AbortSignal): Promise<void> {
  const { store, bell } = session;
  const count = bell.count();
  const writes = globalThis.navigator?.onLine === false ? [] : await take(store, MAX_OPERATIONS);
  if (writes.length === 0) return bell.after(count, signal);
  const isDone = await sendBatch(session, writes, signal);
  if (!isDone) await sendBatch(session, await take(store, 1), signal);
}

/** Sends writes as one batch. Returns false if they are too large for one. */
async function sendBatch(session: Session, writes: Write[], signal: AbortSignal): Promise<boolean> {
  const { client, user, store, bell } = session;
  try {
    const result = await client.batch(writes.map(operationOf), { user, signal });
    await finish(store, writes, result);
  } catch (error) {
    const isTooLarge = error instanceof ApiError && error.status === 413;
    if (isTooLarge && writes.length > 1) return false;
    const write = error instanceof ApiError ? writes[isTooLarge ? 0 : failedOperation(error)] : undefined;
    if (!write) {
      if (wasNotCarriedOut(error)) await release(store, writes.filter(({ sent }) => !sent));
      throw error;
    }
    // Nothing of the batch was carried out. The next one has the others.
    await settle(session, write, error as ApiError);
  }
  bell.ring();
  return true;
}

/** Merges a write that has met a change, or takes it out. */
async function settle({ store, merge }: Session, write: Write, error: ApiError): Promise<void> {
  try {
    const merged = error instanceof PreconditionFailed && rebased(write, error.current, merge);
    await (merged ? replace(store, merged) : refuse(store, write, error));
  } catch (cause) {
    // The application could not merge it.
    await refuse(store, write, cause as Error);
  }
}

function wasNotCarriedOut(error: unknown): boolean {
  return error instanceof ApiError && error.status < 500 && !error.repeated;
}

/** Applies what happens to the copy. */
async function follow({ client, user, store, bell }: Session, signal: AbortSignal): Promise<void> {
  let { since } = await currentCopy(store);
  for await (const changes of client.watch({ since, user, signal })) {
    for (;;) {
      const count = bell.count();
      const outcome = await applyChanges(store, since, changes);
      if (outcome === "stale") return;
      if (outcome === "applied") break;
      await bell.after(count, signal);
    }
    since = changes.since;
    bell.ring();
  }
}

/** Tells the tabs. If that fails, because the disk is full for example, the work goes on. */
async function report({ store, bell }: Session, status: Partial<Status>): Promise<void> {
  if (await setStatus(store, status).catch(() => false)) bell.ring();
}

async function untilOnline(milliseconds: number, signal: AbortSignal): Promise<void> {
  let listener: (() => void) | undefined;
  const online = new Promise<void>((resolve) => (listener = resolve));
  globalThis.addEventListener?.("online", listener!);
  try {
    await Promise.race([sleep(milliseconds, signal), online]);
  } finally {
    globalThis.removeEventListener?.("online", listener!);
  }
}
