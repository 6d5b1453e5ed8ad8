import { useEffect, useRef } from "react";

import { CloseIcon } from "./icons";

type Props = { title: string; onUndo: () => void; onDismiss: () => void };

/** Offers to take a deletion back. It stays until the user decides, because nobody should have to hurry. */
export function Undo({ title, onUndo, onDismiss }: Props) {
  const button = useRef<HTMLButtonElement>(null);
  // The button that had the focus is gone with the task.
  useEffect(() => button.current?.focus(), []);
  return (
    <div className="undo" role="status">
      <span>“{title}” is deleted.</span>
      <button ref={button} onClick={onUndo}>
        Undo
      </button>
      <button className="icon" aria-label="Dismiss" onClick={onDismiss}>
        <CloseIcon />
      </button>
    </div>
  );
}
