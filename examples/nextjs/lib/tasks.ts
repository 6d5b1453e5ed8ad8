// The user's tasks in the browser: a collection of TanStack DB that works offline.

import { createClient, type TaskwellClient } from "@taskwell/client";
import {
  taskCollectionOptions,
  type NewTask,
  type TaskRow,
  type TaskSchema,
  type TaskUtils,
} from "@taskwell/client/tanstack-db";
import { createCollection, type Collection } from "@tanstack/react-db";

import { authClient } from "./auth-client";
import { forgetUser } from "./last-user";

export type Tasks = {
  client: TaskwellClient;
  collection: Collection<TaskRow, string, TaskUtils, TaskSchema, NewTask>;
};

/** A deletion that can be undone. */
export type Deletion = { row: TaskRow; stored: Promise<unknown> };

export function openTasks(url: string, user: string): Tasks {
  const client = createClient({ url, auth: authClient });
  return { client, collection: createCollection(taskCollectionOptions({ client, user })) };
}

export function remove({ collection }: Tasks, row: TaskRow): Deletion {
  return { row, stored: collection.delete(row.key).isPersisted.promise };
}

export async function undo({ client, collection }: Tasks, { row, stored }: Deletion): Promise<void> {
  const { key, id, title, description, complete } = row;
  await stored;
  if (id !== null && collection.utils.state().online) {
    await untilSent(collection.utils);
    await client.restore(id);
  } else {
    // If the deletion is not sent yet, a row with its key takes it back. Otherwise this is a new task.
    collection.insert({ key, title, description, complete });
  }
}

function untilSent({ state, subscribe }: TaskUtils): Promise<void> {
  return new Promise((resolve) => {
    const check = () => {
      if (state().unsent > 0) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = subscribe(check);
    check();
  });
}

/** Signs out, and removes the tasks from this device. What is not sent yet stays, for the next sign-in. */
export async function signOut({ client, collection }: Tasks): Promise<void> {
  const { unsent } = collection.utils.state();
  await collection.cleanup();
  if (unsent === 0) await collection.utils.clear();
  forgetUser();
  await authClient.signOut();
  client.forget();
  // A new page, so that nothing of this user stays in memory.
  location.assign("/sign-in");
}
