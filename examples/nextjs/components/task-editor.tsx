import type { TaskRow, Values } from "@taskwell/client/tanstack-db";
import { useState, type FormEvent, type KeyboardEvent } from "react";

type Props = { row: TaskRow; onSave: (values: Values) => void; onEnd: () => void };

export function TaskEditor({ row, onSave, onEnd }: Props) {
  const [start] = useState(row);
  const [title, setTitle] = useState(row.title);
  const [description, setDescription] = useState(row.description ?? "");
  const isChangedElsewhere = row.title !== start.title || row.description !== start.description;

  function submit(event: FormEvent) {
    event.preventDefault();
    const values: Values = {};
    // Only what the user has changed, so that a change to the other member elsewhere stays.
    if (title.trim() && title.trim() !== start.title) values.title = title.trim();
    if (description !== (start.description ?? "")) values.description = description || null;
    onSave(values);
    onEnd();
  }

  function cancel(event: KeyboardEvent) {
    if (event.key === "Escape") onEnd();
  }

  return (
    <form className="editor" onSubmit={submit} onKeyDown={cancel}>
      <label>
        Title
        <input value={title} onChange={({ target }) => setTitle(target.value)} maxLength={200} required autoFocus />
      </label>
      <label>
        Description
        <textarea
          value={description}
          onChange={({ target }) => setDescription(target.value)}
          maxLength={1000}
          rows={3}
        />
      </label>
      {isChangedElsewhere && (
        <p role="alert">
          Meanwhile changed elsewhere: “{row.title}”{row.description && ` · ${row.description}`}. If you save, what you
          have changed here replaces it.
        </p>
      )}
      <div className="buttons">
        <button className="primary">Save</button>
        <button type="button" onClick={onEnd}>
          Cancel
        </button>
      </div>
    </form>
  );
}
