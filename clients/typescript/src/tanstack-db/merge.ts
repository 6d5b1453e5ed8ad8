// Conflicts: the service has another version of a task than the one that the user has changed.

import type { VersionedTask } from "../types.js";
import { hasAlready } from "../writes.js";
import type { Values, Write } from "./model.js";

/** `mine` has the members that the user has written, `theirs` is the task as it is now, `base` as the user saw it. */
export type Conflict = { mine: Values; theirs: VersionedTask; base: VersionedTask };

/** Returns what to write to `theirs`: `{}` to leave it as it is, or undefined if that cannot be decided. */
export type Merge = (conflict: Conflict) => Values | undefined;

/** Keeps both changes if they are to different members. */
export function mergeMembers({ mine, theirs, base }: Conflict): Values | undefined {
  const members = Object.keys(mine) as (keyof Values)[];
  const isFree = (member: keyof Values) => theirs[member] === base[member] || theirs[member] === mine[member];
  return members.every(isFree) ? mine : undefined;
}

/** Returns the write for the version that the service has now, or undefined if it cannot be merged. */
export function rebased(write: Write, theirs: VersionedTask, merge: Merge): Write | undefined {
  const { op, values: mine, base } = write;
  // The user wants it deleted, whatever it is. Or the service has what the user wants: perhaps, an attempt was carried
  // out before this tab was closed, and its response was lost.
  if (op === "delete" || !base || hasAlready(theirs, mine)) return { ...write, base: theirs };
  const merged = merge({ mine, theirs, base });
  // The service wants at least one member. This one changes nothing.
  const values = merged && { complete: theirs.complete, ...merged };
  return values && { ...write, values, base: theirs };
}
