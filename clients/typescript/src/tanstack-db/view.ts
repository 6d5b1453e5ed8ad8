// The rows that the user sees: the copy, and on top of it what the user has written.

import type { Contents, Stored, TaskRow, Write } from "./model.js";
import { rowOf } from "./model.js";

export type Rows = Map<string, TaskRow>;

export function rowsOf({ tasks, outbox }: Contents): Rows {
  const rows: Rows = new Map(tasks.map((stored) => [stored.key, storedRow(stored)]));
  for (const write of outbox) {
    const row = written(rows.get(write.key), write);
    if (row) rows.set(write.key, row);
    else rows.delete(write.key);
  }
  return rows;
}

function storedRow({ key, task }: Pick<Stored, "key" | "task">): TaskRow {
  const { id, title, description, complete, created_at, updated_at } = task;
  return { key, id, title, description, complete, created_at, updated_at, unsent: false };
}

/** Returns the row as it is after a write, if it then exists. */
function written(row: TaskRow | undefined, { key, op, values, at, done }: Write): TaskRow | undefined {
  if (done) return done.task ? storedRow({ key, task: done.task }) : undefined;
  if (op === "create") return rowOf({ key, created_at: at, updated_at: at, ...values });
  if (op === "delete" || !row) return undefined;
  return { ...row, ...values, updated_at: at, unsent: true };
}

export type Difference =
  | { type: "insert" | "update"; value: TaskRow }
  | { type: "delete"; key: string };

/** Returns what has to be written to make `before` into `after`. */
export function differences(before: Rows, after: Rows): Difference[] {
  const found: Difference[] = [];
  for (const key of before.keys()) if (!after.has(key)) found.push({ type: "delete", key });
  for (const [key, value] of after) {
    const old = before.get(key);
    if (!old) found.push({ type: "insert", value });
    else if (!isSame(old, value)) found.push({ type: "update", value });
  }
  return found;
}

function isSame(one: TaskRow, other: TaskRow): boolean {
  return (Object.keys(one) as (keyof TaskRow)[]).every((member) => one[member] === other[member]);
}
