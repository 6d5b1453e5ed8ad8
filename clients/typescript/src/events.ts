// The stream of events. It connects again whenever it ends.

import { abortable, linked, sleep, type Link } from "./abort.js";
import type { Checkpoint } from "./changes.js";
import { NetworkError, StreamsUnsupported } from "./errors.js";
import { asTaskwellError, type Bound, type Transport } from "./request.js";
import { isTransient, pause } from "./retry.js";
import { blocks, type Block } from "./sse.js";
import type { DeletedTask, VersionedTask } from "./types.js";

/** The service sends a heartbeat every 15 seconds. */
const SILENCE_MILLISECONDS = 30_000;

export type TaskEvent =
  /** The task is new, changed or restored. */
  | { type: "task"; task: VersionedTask; since: Checkpoint }
  | { type: "deleted"; deleted: DeletedTask; since: Checkpoint }
  /** The stream has reached this checkpoint. The first event of a stream without `since` is of this kind. */
  | { type: "checkpoint"; since: Checkpoint }
  /** The service looks for changes less often. Ask for changes when the user comes back to the window. */
  | { type: "idle" }
  | { type: "awake" };

/** Yields events from a checkpoint on, or from now on. It ends only by its signal, or by an error that stays. */
export async function* eventsSince(
  transport: Transport,
  since: Checkpoint | null | undefined,
  call: Bound,
): AsyncGenerator<TaskEvent> {
  if (!transport.canStream) throw new StreamsUnsupported();
  for (let failures = 0; ; failures++) {
    let wait: number | undefined;
    try {
      for await (const block of connection(transport, since, call)) {
        failures = 0;
        since = block.id ?? since;
        if (block.retry) wait = Number(block.retry);
        const event = eventOf(block, since);
        if (event) yield event;
      }
      wait ??= pause(failures);
    } catch (error) {
      if (!isTransient(error)) throw error;
      wait = pause(failures, error);
    }
    await sleep(wait, call.signal);
  }
}

/** Yields the blocks of one connection. If its token has expired, the next connection gets a new one. */
async function* connection(
  { open, tokens }: Transport,
  since: Checkpoint | null | undefined,
  { caller, signal }: Bound,
): AsyncGenerator<Block> {
  const link = linked(signal);
  // The next connection finds out who is signed in.
  const unlisten = tokens.onForget(() => link.abort(new NetworkError("the session has changed")));
  try {
    link.abortAfter(SILENCE_MILLISECONDS, silent);
    const headers: Record<string, string> = since ? { "Last-Event-ID": since } : {};
    const { response, grant } = await open("get", "/events", { headers }, link, caller);
    if (!response.body) throw new StreamsUnsupported();
    for await (const block of blocks(reader(response.body, link))) {
      await tokens.confirm(grant);
      yield block;
    }
  } catch (error) {
    throw asTaskwellError(error, signal);
  } finally {
    unlisten();
    link.abort(undefined);
    link.end();
  }
}

/** Returns a function that returns the next part of a body, or ends the link if there is none for too long. */
function reader(body: ReadableStream<Uint8Array>, link: Link): () => Promise<Uint8Array | undefined> {
  const source = body.getReader();
  return async () => {
    link.abortAfter(SILENCE_MILLISECONDS, silent);
    const { value } = await abortable(source.read(), link.signal);
    link.stopClock();
    return value;
  };
}

function silent(): NetworkError {
  return new NetworkError("the connection is silent");
}

function eventOf({ id, event, data = "null" }: Block, since: Checkpoint | null | undefined): TaskEvent | undefined {
  if (event === "idle" || event === "awake") return { type: event };
  if (!id || !since) return undefined;
  if (event === "task") return { type: event, task: JSON.parse(data), since };
  if (event === "deleted") return { type: event, deleted: JSON.parse(data), since };
  return { type: "checkpoint", since };
}
