// A client of the service, as users with strict compiler settings write it. It is compiled but never run. Each line is a
// promise of the OpenAPI document, and each `@ts-expect-error` is a mistake that the compiler must find.

import type { components, operations } from "./taskwell";

type Schemas = components["schemas"];
type Task = Schemas["TaskResponse"];

type Sent<Operation extends keyof operations> = operations[Operation] extends {
  requestBody: { content: { "application/json": infer Body } };
}
  ? Body
  : never;

type Responses<Operation extends keyof operations> = operations[Operation]["responses"];

type Received<Operation extends keyof operations, Status extends keyof Responses<Operation>> =
  Responses<Operation>[Status] extends { content: { "application/json": infer Body } } ? Body : never;

type ErrorStatus<Operation extends keyof operations> = Exclude<keyof Responses<Operation>, 200 | 201 | 204 | 304>;

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

declare const task: Task;

// --- creating

export const withTitleOnly: Sent<"create_task"> = { title: "Buy milk" };
export const whole: Sent<"create_task"> = { title: "Buy milk", description: null, complete: true };

// @ts-expect-error a task has a title
export const untitled: Sent<"create_task"> = { description: "Oat" };
// @ts-expect-error a member can be absent, but not undefined
export const undefinedDescription: Sent<"create_task"> = { title: "Buy milk", description: undefined };
// @ts-expect-error the member is called `complete`
export const misspelt: Sent<"create_task"> = { title: "Buy milk", completed: true };
// @ts-expect-error a number is not a boolean
export const numeric: Sent<"create_task"> = { title: "Buy milk", complete: 1 };

// --- replacing: a task from a response can be sent back

export const sentBack: Sent<"replace_task"> = { ...task, complete: !task.complete };
export const unchanged: Sent<"replace_task"> = task;
export const withoutDescription: Sent<"replace_task"> = { title: "Buy milk", complete: false };

// @ts-expect-error a replacement has all required members
export const partial: Sent<"replace_task"> = { title: "Buy milk" };

// --- changing

export const done: Sent<"patch_task"> = { complete: true };
export const renamed: Sent<"patch_task"> = { title: "Buy bread" };
export const cleared: Sent<"patch_task"> = { description: null };

// @ts-expect-error a title can be changed, not cleared
export const clearedTitle: Sent<"patch_task"> = { title: null };
// @ts-expect-error a task is complete or not
export const unknownState: Sent<"patch_task"> = { complete: null };

// --- the tasks in responses: all members are always present

export const members: {
  id: number;
  user_id: string;
  title: string;
  description: string | null;
  complete: boolean;
  created_at: string;
  updated_at: string;
} = task;

declare const trashed: Schemas["TrashedTask"];
export const trashedMembers: Task & { etag: string; deleted_at: string } = trashed;

// @ts-expect-error a description can be null
export const length: number = task.description.length;
// @ts-expect-error an index can be out of range
export const first: Task = (null as unknown as Schemas["TaskListResponse"]).tasks[0];

export const successes: [
  Same<Received<"list_tasks", 200>, Schemas["TaskListResponse"]>,
  Same<Received<"create_task", 201>, Task>,
  Same<Received<"get_task", 200>, Task>,
  Same<Received<"replace_task", 200>, Task>,
  Same<Received<"patch_task", 200>, Task>,
  Same<Received<"delete_task", 204>, never>,
  Same<Received<"list_trash", 200>, Schemas["TrashResponse"]>,
  Same<Received<"restore_task", 200>, Task>,
  Same<Received<"list_changes", 200>, Schemas["ChangesResponse"]>,
  Same<Received<"apply_batch", 200>, Schemas["BatchResponse"]>,
  Same<Received<"erase_user", 204>, never>,
  Same<Received<"health", 200>["status"], "ok">,
  Same<Received<"ready", 200>["database"], "ok">,
] = [true, true, true, true, true, true, true, true, true, true, true, true, true];

// --- batches: each operation has its own members

export const batch: Sent<"apply_batch"> = {
  operations: [
    { op: "create", task: { title: "Buy milk" }, key: "k" },
    { op: "replace", id: 1, task: { ...task, complete: true }, if_match: '"57"' },
    { op: "patch", id: 2, task: { complete: true } },
    { op: "delete", id: 3 },
  ],
};
// @ts-expect-error a deletion has no task
export const deletion: Sent<"apply_batch"> = { operations: [{ op: "delete", id: 1, task: { title: "x" } }] };
// @ts-expect-error there is no such operation
export const destruction: Sent<"apply_batch"> = { operations: [{ op: "destroy", id: 1 }] };

declare const result: Schemas["OperationResult"];
export const status: 200 | 201 | 204 = result.status;
export const etagOfResult: string | undefined = result.task?.etag;

// --- changes: a task has its ETag besides, and can be sent back without it

declare const changes: Schemas["ChangesResponse"];
export const { etag, ...versioned } = changes.tasks[0]!;
export const changed: Task = versioned;
export const ifMatch: string = etag;
export const removed: { id: number; deleted_at: string }[] = changes.deleted;
export const next: { since: string; revision: number; has_more: boolean } = changes;

// --- errors: the same body for all errors of all operations

type Failed = { [Operation in keyof operations]: Received<Operation, ErrorStatus<Operation>> };
export const failures: { [Operation in keyof operations]: Same<Failed[Operation], Schemas["Problem"]> } = {
  list_tasks: true,
  create_task: true,
  get_task: true,
  replace_task: true,
  patch_task: true,
  delete_task: true,
  list_trash: true,
  restore_task: true,
  list_changes: true,
  stream_events: true,
  apply_batch: true,
  erase_user: true,
  export_tasks: true,
  health: true,
  ready: true,
};

export function inWords(problem: Schemas["Problem"]): string {
  switch (problem.error_code) {
    case "AUTH_MISSING":
    case "AUTH_INVALID":
      return "Sign in again.";
    case "VALIDATION_ERROR":
      return problem.errors?.map((rule) => `${rule.loc.join(".")}: ${rule.msg}`).join("\n") ?? problem.detail;
    // @ts-expect-error no error has this code
    case "TEAPOT":
      return "";
    default:
      return problem.detail;
  }
}

export const details: Received<"get_task", 404> = null as unknown as Schemas["ProblemDetails"];

// --- parameters and headers

export const page: operations["list_tasks"]["parameters"] = {
  path: { user_id: "user_abc123" },
  query: { complete: false, limit: 10 },
};
export const everything: operations["list_tasks"]["parameters"] = { path: { user_id: "user_abc123" } };

// @ts-expect-error a filter is true, false or absent
export const nullFilter: operations["list_tasks"]["parameters"]["query"] = { complete: null };
// @ts-expect-error an id is a number
export const textualId: operations["get_task"]["parameters"]["path"] = { user_id: "user_abc123", task_id: "1" };

export const headers: [string, string, string, string, string | undefined] = [
  null as unknown as Responses<"create_task">[201]["headers"]["Location"],
  null as unknown as Responses<"create_task">[201]["headers"]["X-Request-ID"],
  null as unknown as Responses<"get_task">[401]["headers"]["WWW-Authenticate"],
  null as unknown as Responses<"get_task">[503]["headers"]["Retry-After"],
  null as unknown as Responses<"get_task">[500]["headers"]["Retry-After"],
];
