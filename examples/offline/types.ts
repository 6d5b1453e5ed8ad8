// The types of a client that works offline.

/** The members of a task that a user can change. */
export type Values = { title: string; description: string | null; complete: boolean };

/** A task as the user sees it. Until a write is done, the `etag` is local. So is the `id` of a new task. */
export type Shown = Values & { id: number; etag: string };

/** A task as the service returns it. */
export type Task = Shown & { created_at: string; updated_at: string };

/** A write of the user. */
export type Write = {
  op: "create" | "patch" | "delete";
  key: string;
  /** The members to send. */
  task: Partial<Values>;
  /** The version that the user saw when writing. */
  seen: Shown;
  /** What the user sees from then on. */
  shown: Shown | null;
  /** Present as soon as the result has arrived: its `Taskwell-Revision`. */
  revision?: number;
};

/** Everything that the device stores. */
export type State = {
  tasks: Map<number, Task>;
  /** The token of `tasks`. */
  since: string | null;
  /** The writes that `tasks` does not contain yet, in their order. */
  outbox: Write[];
  /** The service's name for each local `id` and `etag`. */
  ids: Map<number, number>;
  etags: Map<string, string>;
};

/** A response of `/tasks/batch`. */
export type Results = { results: { task: Task | null }[] };

/** A response of `/changes`. */
export type Page = { tasks: Task[]; deleted: { id: number }[]; since: string; revision: number; has_more: boolean };

/** An error of the service. */
export type Problem = {
  detail: string;
  error_code: string;
  errors?: { loc: (string | number)[]; msg: string; type: string }[];
  current?: Task;
};

/** The part that the app writes. */
export type App = {
  /** The user's part of the API, such as `https://tasks.example.com/api/alice`. */
  url: string;
  /** Returns a token. If `fresh`, the service has refused the last one: get another. */
  token(fresh: boolean): Promise<string>;
  /** Returns what was saved last, or undefined for a new device. */
  load(): Promise<State | undefined>;
  /** Stores `state` as it is at the time of the call, all or nothing. Show the tasks anew here, too. */
  save(state: State): Promise<void>;
  /** Returns what to send instead, based on `problem.current` if it exists. Null drops the write. */
  refused(write: Write, problem: Problem): Partial<Values> | null;
  /** Aborted when the user signs out. */
  signal: AbortSignal;
};
