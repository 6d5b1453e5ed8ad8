import type { TasksState } from "@taskwell/client/tanstack-db";

/** Says whether everything is saved. Screen readers read changes aloud. */
export function Status({ state: { online, unsent, error } }: { state: TasksState }) {
  const kind = !online ? "offline" : error ? "failed" : "saved";
  return (
    <p role="status" className={`status ${kind}`}>
      {textOf(online, unsent, error)}
    </p>
  );
}

function textOf(online: boolean, unsent: number, error: string | null): string {
  const changes = unsent === 1 ? "1 change" : `${unsent} changes`;
  if (!online) return unsent > 0 ? `Offline. ${changes} kept on this device` : "Offline";
  if (error) return "Not saved yet. Trying again";
  return unsent > 0 ? "Saving" : "Saved";
}
