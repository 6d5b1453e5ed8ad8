import type { TaskRow } from "@taskwell/client/tanstack-db";
import { useEffect, useRef, useState } from "react";

import { DeleteIcon, EditIcon } from "./icons";
import { TaskEditor } from "./task-editor";
import type { TaskActions } from "./task-list";

export function TaskItem({ row, onChange, onDelete }: { row: TaskRow } & TaskActions) {
  const [isEdited, setEdited] = useState(false);
  const wasEdited = useRef(false);
  const edit = useRef<HTMLButtonElement>(null);

  // After editing, the keyboard goes on where it was.
  useEffect(() => {
    if (wasEdited.current && !isEdited) edit.current?.focus();
    wasEdited.current = isEdited;
  }, [isEdited]);

  if (isEdited) {
    return (
      <li>
        <TaskEditor row={row} onSave={(values) => onChange(row, values)} onEnd={() => setEdited(false)} />
      </li>
    );
  }
  return (
    <li className={row.complete ? "task done" : "task"}>
      <label>
        <input
          type="checkbox"
          checked={row.complete}
          onChange={({ target }) => onChange(row, { complete: target.checked })}
        />
        <span>
          <span className="title">{row.title}</span>
          {row.description && <span className="description">{row.description}</span>}
          {row.unsent && <span className="unsent">Not sent yet</span>}
        </span>
      </label>
      <button ref={edit} className="icon" aria-label={`Edit ${row.title}`} onClick={() => setEdited(true)}>
        <EditIcon />
      </button>
      <button className="icon" aria-label={`Delete ${row.title}`} onClick={() => onDelete(row)}>
        <DeleteIcon />
      </button>
    </li>
  );
}
