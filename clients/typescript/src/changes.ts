// The changes since a checkpoint.

import { ApiError } from "./errors.js";
import type { Bound, Transport } from "./request.js";
import type { CallOptions, DeletedTask, VersionedTask } from "./types.js";

/** A place in the history of a user's tasks. Store it together with the copy that it belongs to. */
export type Checkpoint = string;

export type SyncOptions = CallOptions & { since?: Checkpoint | null | undefined };

/** A part of what has changed. After the last part, the copy is complete. */
export type Changes = {
  /** Discard the copy first: these changes are from the beginning. */
  reset: boolean;
  /** Put these into the copy. */
  tasks: VersionedTask[];
  /** Remove these from the copy, if it has them. */
  deleted: DeletedTask[];
  /** The checkpoint of the copy after this. */
  since: Checkpoint;
  /** The copy then contains every write whose `revision` is not above this one. */
  revision: number;
};

/** Yields all changes since a checkpoint, or from the beginning if there is none or if it is no longer valid. */
export async function* changesSince(
  { send }: Transport,
  since: Checkpoint | null | undefined,
  call: Bound,
): AsyncGenerator<Changes> {
  for (let hasMore = true; hasMore; ) {
    try {
      const query = since ? { since } : undefined;
      const { body } = await send("get", "/changes", { ...call, query });
      const { has_more, ...changes } = body;
      yield { reset: !since, ...changes };
      since = changes.since;
      hasMore = has_more;
    } catch (error) {
      if (!(since && isGone(error))) throw error;
      since = null;
    }
  }
}

/** Tells whether a checkpoint is not valid any more: the account was erased, or a backup was restored. */
export function isGone(error: unknown): boolean {
  return error instanceof ApiError && error.code === "GONE";
}
