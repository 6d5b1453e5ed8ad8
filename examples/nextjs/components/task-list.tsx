import type { TaskRow, Values } from "@taskwell/client/tanstack-db";

import type { View } from "../lib/use-tasks";
import { TaskItem } from "./task-item";

export type TaskActions = {
  onChange: (row: TaskRow, values: Values) => void;
  onDelete: (row: TaskRow) => void;
};

export function TaskList({ rows, view, ...actions }: { rows: TaskRow[] | null; view: View } & TaskActions) {
  if (!rows?.length) return <p className="empty">{rows ? emptyText(view) : "Loading your tasks …"}</p>;
  return (
    <ul className="card tasks">
      {rows.map((row) => (
        <TaskItem key={row.key} row={row} {...actions} />
      ))}
    </ul>
  );
}

function emptyText({ show, search }: View): string {
  if (search) return `Nothing found for “${search}”.`;
  return show === "done" ? "Nothing is done yet." : "Nothing to do. Enjoy your day!";
}
