// The types of the rows that the adapter shows, and of the records that it stores.

import type { ApiError } from "../errors.js";
import { newKey } from "../retry.js";
import type { Task, TaskCreate, TaskPatch, VersionedTask, Violation } from "../types.js";

/** A task as the collection shows it. */
export type TaskRow = Omit<Task, "id" | "user_id"> & {
  /** The key of the collection. It never changes on this device, also not when the service has given an `id`. */
  key: string;
  /** The service's id: null until the service has created the task. */
  id: number | null;
  /** Whether the user has written something that the service does not have yet. */
  unsent: boolean;
};

/** The argument of `insert`. */
export type NewTask = Pick<TaskCreate, "title" | "description" | "complete"> & { key?: string };

/** The members that a user writes. */
export type Values = Pick<TaskPatch, "title" | "description" | "complete">;

/** A write that waits for the service, or for the copy to contain it. */
export type Write = {
  /** Its place in the outbox. */
  n: number;
  key: string;
  op: "create" | "patch" | "delete";
  values: Values;
  at: string;
  /** The version that the user saw. Null if the service has not created the task yet. */
  base: VersionedTask | null;
  idempotencyKey: string;
  /** Whether the service may have carried it out. Then it must not be changed any more. */
  sent: boolean;
  /** The service has carried it out. The copy contains it from this revision on. */
  done: { task: VersionedTask | null; revision: number } | null;
};

/** A write that the service refuses. It is not in the outbox any more. */
export type Refusal = Pick<Write, "n" | "key" | "op" | "values"> & {
  message: string;
  code: ApiError["code"];
  violations: Violation[];
};

/** A task of the service, and the key that it has in the collection. */
export type Stored = { id: number; key: string; task: VersionedTask };

/** Up to where the stored tasks tell. */
export type Copy = { since: string | null; revision: number };

export type Status = { online: boolean; error: string | null };

/** All that is stored for a user. */
export type Contents = { tasks: Stored[]; outbox: Write[]; refused: Refusal[]; copy: Copy; status: Status };

/** Returns the row of a new task. The members that `values` has win. */
export function rowOf(values: Partial<TaskRow>): TaskRow {
  const now = new Date().toISOString();
  const fresh = { key: newKey(), id: null, title: "", description: null, complete: false, unsent: true };
  return { ...fresh, created_at: now, updated_at: now, ...values };
}

export function valuesOf({ title, description, complete }: Values): Values {
  const members = Object.entries({ title, description, complete });
  return Object.fromEntries(members.filter(([, value]) => value !== undefined));
}
