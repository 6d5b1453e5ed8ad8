// The user's tasks as a collection of TanStack DB, with or without a network.
//
// What the user sees is computed from IndexedDB: the copy of the service's tasks, and the outbox on top of it. So a
// reload, another tab and the tab that wrote all show the same, and to roll back is to take a write out of the outbox.

import type { CollectionConfig, PendingMutation } from "@tanstack/db";

import type { TaskwellClient } from "../client.js";
import { bellOf } from "./bell.js";
import { gathered } from "./gathered.js";
import { whileLeader } from "./leader.js";
import { mergeMembers, type Merge } from "./merge.js";
import { valuesOf, type Contents, type Refusal, type TaskRow, type Write } from "./model.js";
import { enqueue, type Edit } from "./outbox.js";
import { SCHEMA, type TaskSchema } from "./schema.js";
import { clearStore, contentsOf, openStore, removeRefusal, type Store } from "./store.js";
import { syncWhile } from "./sync.js";
import { differences, rowsOf, type Rows } from "./view.js";

export { mergeMembers, type Conflict, type Merge } from "./merge.js";
export type { NewTask, Refusal, TaskRow, Values } from "./model.js";
export type { TaskSchema } from "./schema.js";

export type TaskCollectionOptions = {
  client: TaskwellClient;
  /** The id of the user whose tasks these are. Nothing is sent while another user is signed in. */
  user: string;
  /** Decides what to write to a task that has changed since the user saw it. By default, `mergeMembers`. */
  merge?: Merge;
};

/** The state of the tasks, for the application to show. */
export type TasksState = {
  /** Whether the service answers. */
  online: boolean;
  /** The number of writes that the service does not have yet. */
  unsent: number;
  /** The writes that the service has refused, until they are dismissed. */
  refused: readonly Refusal[];
  /** What failed last. Null after the service has answered. */
  error: string | null;
};

/** The `utils` of the collection. */
export type TaskUtils = {
  /** Returns the same object until something changes. */
  state(): TasksState;
  subscribe(listener: () => void): () => void;
  /** Removes a refusal that the user has seen. */
  dismiss(refusal: Refusal): Promise<void>;
  /** Removes everything of the user from this device, also what is not sent. Call `cleanup()` before. */
  clear(): Promise<void>;
};

export type TaskCollectionConfig = CollectionConfig<TaskRow, string, TaskSchema, TaskUtils> & {
  schema: TaskSchema;
  utils: TaskUtils;
};

type Sync = TaskCollectionConfig["sync"]["sync"];
type Handler = (params: { transaction: { mutations: PendingMutation<TaskRow>[] } }) => Promise<void>;

/** Returns the options for `createCollection`. Make one collection for each user who is signed in. */
export function taskCollectionOptions({
  client,
  user,
  merge = mergeMembers,
}: TaskCollectionOptions): TaskCollectionConfig {
  const name = `taskwell ${client.url} ${user}`;
  const listeners = new Set<() => void>();
  let opened: Promise<Store> | undefined;
  let state: TasksState = { online: true, unsent: 0, refused: [], error: null };
  let changed: () => Promise<void> = async () => {};

  const store = () => (opened ??= openStore(name));

  function publish(next: TasksState) {
    if (JSON.stringify(next) === JSON.stringify(state)) return;
    state = next;
    for (const listener of listeners) listener();
  }

  const sync: Sync = ({ begin, write, commit, markReady, markError }) => {
    const controller = new AbortController();
    const { signal } = controller;
    const bell = bellOf(name);
    let contents: Contents | undefined;
    let shown: Rows = new Map();

    const show = gathered(async () => {
      contents = await contentsOf(await store(), contents);
      if (signal.aborted) return;
      const rows = rowsOf(contents);
      const found = differences(shown, rows);
      shown = rows;
      if (found.length > 0) {
        begin();
        for (const each of found) write(each);
        // While a write of the user is being stored, this is shown when that is done. Waiting for it would never end.
        void Promise.resolve(commit()).catch(() => {});
      }
      if (contents.copy.since !== null || !contents.status.online) markReady();
      publish(stateOf(contents));
    });

    const failed = (error: unknown) => {
      if (signal.aborted) return;
      markError(error);
      publish({ ...state, error: String(error) });
    };

    changed = async () => {
      bell.ring();
      await show();
    };
    bell.listen(() => void show().catch(failed));
    show()
      .then(async () => {
        const session = { client, user, store: await store(), bell, merge };
        await whileLeader(name, (turn) => syncWhile(session, turn), signal);
      })
      .catch(failed);

    return () => {
      controller.abort();
      bell.close();
      changed = async () => {};
    };
  };

  const saves =
    (op: Write["op"]): Handler =>
    async ({ transaction }) => {
      const edits = transaction.mutations.map((mutation) => editOf(op, mutation));
      await enqueue(await store(), edits.filter(hasEffect));
      await changed();
    };

  return {
    id: name,
    schema: SCHEMA,
    getKey: ({ key }) => key,
    sync: { sync, rowUpdateMode: "full" },
    onInsert: saves("create"),
    onUpdate: saves("patch"),
    onDelete: saves("delete"),
    // What is not sent yet is sent also while nothing shows the tasks.
    startSync: true,
    gcTime: 0,
    utils: {
      state: () => state,
      subscribe(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      async dismiss(refusal) {
        await removeRefusal(await store(), refusal);
        await changed();
      },
      async clear() {
        await clearStore(await store());
        await changed();
      },
    },
  };
}

function editOf(op: Write["op"], { key, modified, changes }: PendingMutation<TaskRow>): Edit {
  if (op === "delete") return { key, op, values: {} };
  return { key, op, values: valuesOf(op === "create" ? modified : changes) };
}

function hasEffect({ op, values }: Edit): boolean {
  return op !== "patch" || Object.keys(values).length > 0;
}

function stateOf({ outbox, refused, status }: Contents): TasksState {
  return { ...status, unsent: outbox.filter(({ done }) => !done).length, refused };
}
