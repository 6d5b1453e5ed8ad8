// A copy that stays up to date: what has changed, and then what happens.

import { linked, sleep } from "./abort.js";
import { changesSince, isGone, type Changes, type Checkpoint } from "./changes.js";
import { StreamsUnsupported, TaskwellError } from "./errors.js";
import { eventsSince, type TaskEvent } from "./events.js";
import type { Bound, Transport } from "./request.js";
import { isTransient, pause } from "./retry.js";

/** Writes often come together. */
const GATHER_MILLISECONDS = 50;
/** How often to ask for changes where there are no streams. */
const POLL_MILLISECONDS = 30_000;

/** The user is back, or the device is online again. */
class Returned extends TaskwellError {}

/**
 * Yields all changes since a checkpoint, and then those that happen.
 *
 * An event is only the signal to ask for changes. So one piece of code changes the copy, and its revision is always
 * known.
 */
export async function* watchFrom(
  transport: Transport,
  since: Checkpoint | null | undefined,
  { caller, signal }: Bound,
): AsyncGenerator<Changes> {
  // Events of changes that are in the copy already.
  let known = new Set<string>();

  async function* update() {
    known = new Set();
    for await (const changes of changesSince(transport, since, { caller, signal })) {
      since = changes.since;
      if (!changes.reset && changes.tasks.length + changes.deleted.length === 0) continue;
      for (const each of [...changes.tasks, ...changes.deleted]) known.add(versionOf(each));
      yield changes;
    }
  }

  let failures = 0;
  let signals: typeof eventsSince | typeof polls = transport.canStream ? eventsSince : polls;
  for (let milliseconds = 0; ; ) {
    const turn = linked(signal);
    let isResting = milliseconds > 0;
    const unlisten = onReturn(() => isResting && turn.abort(new Returned("the user is back")));
    try {
      await sleep(milliseconds, turn.signal);
      isResting = false;
      yield* update();
      for await (const event of signals(transport, since, { caller, signal: turn.signal })) {
        failures = 0;
        // The service looks for changes less often now. A new connection makes it look again.
        isResting = event?.type === "idle";
        if (isNews(event, known)) {
          await sleep(GATHER_MILLISECONDS, turn.signal);
          yield* update();
        }
      }
    } catch (error) {
      if (error instanceof StreamsUnsupported) signals = polls;
      // After `isGone`, the update begins anew.
      else if (!(error instanceof Returned) && !isTransient(error) && !isGone(error)) throw error;
      milliseconds = error instanceof Returned ? 0 : pause(failures++, error);
    } finally {
      unlisten();
      turn.end();
    }
  }
}

async function* polls(_: Transport, __: unknown, { signal }: Bound): AsyncGenerator<undefined> {
  for (;;) {
    await sleep(POLL_MILLISECONDS, signal);
    yield undefined;
  }
}

function onReturn(listener: () => void): () => void {
  const names = ["focus", "online"];
  // Only browsers have these events.
  for (const name of names) globalThis.addEventListener?.(name, listener);
  return () => {
    for (const name of names) globalThis.removeEventListener?.(name, listener);
  };
}

function isNews(event: TaskEvent | undefined, known: Set<string>): boolean {
  if (event?.type === "task") return !known.has(versionOf(event.task));
  if (event?.type === "deleted") return !known.has(versionOf(event.deleted));
  return event === undefined;
}

function versionOf({ id, etag, deleted_at }: { id: number; etag?: string; deleted_at?: string }): string {
  return `${id} ${etag ?? deleted_at}`;
}
