// The names of this package for the types that the API document has.

import type { components, operations } from "./api.js";

type Schemas = components["schemas"];

/** A task as lists return it. */
export type Task = Schemas["TaskResponse"];

/** A task and its version. A write to it changes only this version. */
export type VersionedTask = Schemas["VersionedTask"];

/** The result of a write. A copy contains it as soon as the `revision` of its changes is not below this one. */
export type WrittenTask = VersionedTask & { revision: number };

export type TrashedTask = Schemas["TrashedTask"];
export type DeletedTask = Schemas["DeletedTask"];
export type TaskCreate = Schemas["TaskCreate"];
export type TaskUpdate = Schemas["TaskUpdate"];
export type TaskPatch = Schemas["TaskPatch"];

/** An operation of a batch. `if_match` is the `etag` of the version to change. */
export type Operation = Schemas["BatchRequest"]["operations"][number];

export type BatchResult = Schemas["BatchResponse"] & { revision: number };
export type TaskQuery = NonNullable<operations["list_tasks"]["parameters"]["query"]>;
export type TrashQuery = NonNullable<operations["list_trash"]["parameters"]["query"]>;
export type Violation = Schemas["Violation"];

/** The kind of an error. */
export type ErrorCode = Schemas["Problem"]["error_code"];

/**
 * The task to change: a task that you have read, or an id.
 *
 * If it is a task, the write happens only if the task is still as you have read it. If it is an id, it always happens.
 */
export type TaskRef = number | { id: number; etag?: string; updated_at?: string };

export type CallOptions = {
  signal?: AbortSignal | undefined;
  /** The id of the user that the call is for. If another user is signed in, it throws `UserChanged`. */
  user?: string | undefined;
};
