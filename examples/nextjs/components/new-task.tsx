import type { FormEvent, RefObject } from "react";

import { PlusIcon } from "./icons";

type Props = { input: RefObject<HTMLInputElement | null>; onAdd: ((title: string) => void) | undefined };

export function NewTask({ input, onAdd }: Props) {
  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const title = input.current?.value.trim();
    if (title) onAdd?.(title);
    event.currentTarget.reset();
  }

  // Until the tasks are open, the user can type, but not send.
  return (
    <form className="new-task" onSubmit={submit}>
      <input ref={input} aria-label="New task" placeholder="What is to be done?" maxLength={200} required />
      <button className="primary" aria-label="Add" disabled={!onAdd}>
        <PlusIcon />
      </button>
    </form>
  );
}
