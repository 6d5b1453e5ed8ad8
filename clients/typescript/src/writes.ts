// Writes to one task.

import { ApiError, PreconditionFailed } from "./errors.js";
import type { Answer, Bound, Transport } from "./request.js";
import { newKey } from "./retry.js";
import type {
  CallOptions,
  Task,
  TaskCreate,
  TaskPatch,
  TaskRef,
  TaskUpdate,
  VersionedTask,
  WrittenTask,
} from "./types.js";

const TASK = "/tasks/{task_id}";

export type Writes = {
  get(id: number, options?: CallOptions): Promise<VersionedTask>;
  /** Creates a task: one for each key, however often it is called. Without a key, each call has a new one. */
  create(task: TaskCreate, options?: CallOptions & { key?: string }): Promise<WrittenTask>;
  /** Replaces all that the user can change. A description that is left out becomes null. */
  replace(ref: TaskRef, task: TaskUpdate, options?: CallOptions): Promise<WrittenTask>;
  /** Changes some members. */
  patch(ref: TaskRef, changes: TaskPatch, options?: CallOptions): Promise<WrittenTask>;
  /** Moves a task to the trash. */
  delete(ref: TaskRef, options?: CallOptions): Promise<{ revision: number }>;
  /** Brings a task back from the trash. A task that is not deleted stays as it is. */
  restore(ref: TaskRef, options?: CallOptions): Promise<WrittenTask>;
};

type ChangeCall = Bound & { id: number; headers: Record<string, string>; repeatable: boolean };

export function writesOf({ bound, send }: Transport): Writes {
  /** Returns the ETag of the version that the caller has seen, if it has seen one. */
  async function etagOf(ref: TaskRef, call: Bound): Promise<string | undefined> {
    if (typeof ref === "number") return undefined;
    if (ref.etag ?? !ref.updated_at) return ref.etag;
    // Lists have no ETags. Every change of a task moves `updated_at`.
    const answer = await send("get", TASK, { ...call, id: ref.id });
    const current = versioned(answer);
    if (current.updated_at === ref.updated_at) return current.etag;
    const detail = "the task has changed since you have read it";
    throw new PreconditionFailed({ detail, error_code: "PRECONDITION_FAILED" }, current, answer.headers);
  }

  async function change<Body extends TaskPatch | TaskUpdate>(
    ref: TaskRef,
    body: Body,
    options: CallOptions | undefined,
    request: (call: ChangeCall) => Promise<Answer<Task>>,
  ): Promise<WrittenTask> {
    const [id, call] = [idOf(ref), bound(options)];
    let etag = await etagOf(ref, call);
    for (let repeated = false; ; ) {
      try {
        // Without a condition, a second attempt would overwrite what others have written after the first one.
        return written(await request({ ...call, id, headers: ifMatch(etag), repeatable: etag !== undefined }));
      } catch (error) {
        if (!(error instanceof PreconditionFailed)) throw error;
        repeated ||= error.repeated;
        if (!repeated || !hasAlready(error.current, body)) throw error;
        // The first attempt was carried out, and its response was lost. The next one changes nothing, and says the
        // revision.
        etag = error.current.etag;
      }
    }
  }

  return {
    get: async (id, options) => versioned(await send("get", TASK, { ...bound(options), id })),

    async create(task, { key = newKey(), ...options } = {}) {
      const headers = { "Idempotency-Key": key };
      return written(await send("post", "/tasks", { ...bound(options), body: sendable(task), headers }));
    },

    replace(ref, task, options) {
      const body = whole(task);
      return change(ref, body, options, (call) => send("put", TASK, { ...call, body }));
    },

    patch(ref, changes, options) {
      const body = sendable(changes);
      return change(ref, body, options, (call) => send("patch", TASK, { ...call, body }));
    },

    async delete(ref, options) {
      const [id, call] = [idOf(ref), bound(options)];
      const headers = ifMatch(await etagOf(ref, call));
      try {
        return { revision: revisionOf(await send("delete", TASK, { ...call, id, headers })) };
      } catch (error) {
        if (!(error instanceof ApiError && error.code === "NOT_FOUND" && error.repeated)) throw error;
        // Probably, the first attempt was carried out. In a batch, the deletion of a deleted task succeeds.
        const body = { operations: [{ op: "delete" as const, id }] };
        return { revision: revisionOf(await send("post", "/tasks/batch", { ...call, body })) };
      }
    },

    async restore(ref, options) {
      return written(await send("post", "/trash/{task_id}/restore", { ...bound(options), id: idOf(ref) }));
    },
  };
}

/** Returns the members that the service accepts: a task that it returned may be sent back. */
export function sendable<T extends TaskCreate | TaskUpdate | TaskPatch>(task: T): T {
  const { etag, revision, deleted_at, ...members } = task as T & Record<"etag" | "revision" | "deleted_at", unknown>;
  return members as unknown as T;
}

/** Returns all members of a replacement, so that it can be compared with a task. */
export function whole(task: TaskUpdate): TaskUpdate {
  return { description: null, ...sendable(task) };
}

/** Tells whether a task is as a write wants it. */
export function hasAlready(task: Task, wanted: TaskPatch): boolean {
  const { title, description, complete } = wanted;
  return (
    (title === undefined || title.trim() === task.title) &&
    (description === undefined || description === task.description) &&
    (complete === undefined || complete === task.complete)
  );
}

export function revisionOf({ headers }: Answer<unknown>): number {
  return Number(headers.get("Taskwell-Revision"));
}

function versioned({ body, headers }: Answer<Task>): VersionedTask {
  return { ...body, etag: headers.get("ETag") ?? "" };
}

function written(answer: Answer<Task>): WrittenTask {
  return { ...versioned(answer), revision: revisionOf(answer) };
}

function idOf(ref: TaskRef): number {
  return typeof ref === "number" ? ref : ref.id;
}

function ifMatch(etag: string | undefined): Record<string, string> {
  return etag ? { "If-Match": etag } : {};
}
