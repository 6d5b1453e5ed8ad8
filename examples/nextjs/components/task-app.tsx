"use client";

import type { Task } from "@taskwell/client";
import type { TaskRow } from "@taskwell/client/tanstack-db";
import { useEffect, useRef, useState } from "react";

import { useSameUser } from "../lib/auth-client";
import { rememberUser, type LastUser } from "../lib/last-user";
import { remove, signOut, undo, type Deletion } from "../lib/tasks";
import { useTasks, useTasksState, useView, type View } from "../lib/use-tasks";
import { NewTask } from "./new-task";
import { Refusals } from "./refusals";
import { Status } from "./status";
import { TaskList } from "./task-list";
import { Toolbar } from "./toolbar";
import { Undo } from "./undo";

/** `first` are the tasks that the server has rendered, if it could. */
export function TaskApp({ url, user, email, first }: LastUser & { first: Task[] | null }) {
  useSameUser(user);
  const tasks = useTasks(url, user);
  const state = useTasksState(tasks);
  const [view, setView] = useState<View>({ show: "open", sort: "newest", search: "" });
  const rows = useView(tasks, first, view);
  const [deletion, setDeletion] = useState<Deletion>();
  const newTask = useRef<HTMLInputElement>(null);

  useEffect(() => {
    rememberUser({ url, user, email });
    // In development, files change without getting new names, so they must not be stored.
    if (process.env.NODE_ENV === "production") void navigator.serviceWorker?.register("/sw.js");
  }, [url, user, email]);

  function endDeletion() {
    setDeletion(undefined);
    newTask.current?.focus();
  }

  return (
    <>
      <header>
        <h1>Tasks</h1>
        <p className="user">{email}</p>
        <button onClick={() => tasks && signOut(tasks)} disabled={!tasks || !state.online}>
          Sign out
        </button>
        <Status state={state} />
      </header>
      <main>
        <NewTask input={newTask} onAdd={tasks && ((title) => tasks.collection.insert({ title }))} />
        <Toolbar view={view} onChange={setView} />
        {tasks && <Refusals refused={state.refused} collection={tasks.collection} />}
        <TaskList
          rows={rows}
          view={view}
          onChange={({ key }, values) => tasks?.collection.update(key, (task) => void Object.assign(task, values))}
          onDelete={(row: TaskRow) => tasks && setDeletion(remove(tasks, row))}
        />
      </main>
      {tasks && deletion && (
        <Undo
          key={deletion.row.key}
          title={deletion.row.title}
          onUndo={() => undo(tasks, deletion).finally(endDeletion)}
          onDismiss={endDeletion}
        />
      )}
    </>
  );
}
