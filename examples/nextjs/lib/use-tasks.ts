// The tasks as React components see them.

import type { Task } from "@taskwell/client";
import type { TaskRow, TasksState } from "@taskwell/client/tanstack-db";
import { eq, useLiveQuery } from "@tanstack/react-db";
import { useEffect, useState, useSyncExternalStore } from "react";

import { openTasks, type Tasks } from "./tasks";

export const SORTS = {
  newest: ["created_at", "desc"],
  changed: ["updated_at", "desc"],
  title: ["title", "asc"],
} as const;

export type View = { show: "open" | "done" | "all"; sort: keyof typeof SORTS; search: string };

const UNKNOWN: TasksState = { online: true, unsent: 0, refused: [], error: null };

/** Returns the tasks of the user, or undefined on the server and until the page has started. */
export function useTasks(url: string, user: string): Tasks | undefined {
  const [tasks, setTasks] = useState<Tasks>();
  useEffect(() => {
    const opened = openTasks(url, user);
    setTasks(opened);
    return () => void opened.collection.cleanup();
  }, [url, user]);
  return tasks;
}

/** Returns whether the service answers, and what it does not have yet. */
export function useTasksState(tasks: Tasks | undefined): TasksState {
  const { subscribe, state } = tasks?.collection.utils ?? { subscribe: () => () => {}, state: () => UNKNOWN };
  return useSyncExternalStore(subscribe, state, () => UNKNOWN);
}

/** Returns what the view shows, as it changes: until the tasks are open, those of the server. Null if not known. */
export function useView(tasks: Tasks | undefined, first: Task[] | null, { show, sort, search }: View): TaskRow[] | null {
  const [member, direction] = SORTS[sort];
  const live = useLiveQuery((query) => {
    if (!tasks) return undefined;
    const sorted = query.from({ task: tasks.collection }).orderBy(({ task }) => task[member], direction);
    return show === "all" ? sorted : sorted.where(({ task }) => eq(task.complete, show === "done"));
  });
  const rows: TaskRow[] | null | undefined = tasks && live.isReady ? live.data : first?.map(rowOf).filter(shownBy(show));
  return rows?.filter(foundBy(search)) ?? null;
}

function rowOf(task: Task): TaskRow {
  return { ...task, key: String(task.id), unsent: false };
}

const shownBy = (show: View["show"]) => (row: TaskRow) => show === "all" || row.complete === (show === "done");

// Not in the query, because its `ilike` cannot search for the characters % and _.
function foundBy(search: string): (row: TaskRow) => boolean {
  const wanted = search.trim().toLowerCase();
  return ({ title, description }) => `${title}\n${description ?? ""}`.toLowerCase().includes(wanted);
}
