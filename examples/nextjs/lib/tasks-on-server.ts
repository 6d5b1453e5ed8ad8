// The user's tasks, while a page is rendered on the server.

import { createClient, type Task } from "@taskwell/client";

import { auth } from "./auth";

const WAIT_MILLISECONDS = 2_000;

export const taskwellUrl = () => process.env.TASKWELL_URL ?? "http://localhost:8000";

/**
 * Returns the newest tasks of the user whose request this is, or null if Taskwell does not answer.
 *
 * The client belongs to one request, because the next request may be another user's.
 */
export async function tasksOnServer(headers: Headers): Promise<Task[] | null> {
  const token = async () => (await auth.api.getToken({ headers })).token;
  const client = createClient({ url: taskwellUrl(), auth: token });
  const signal = AbortSignal.timeout(WAIT_MILLISECONDS);
  try {
    return (await client.tasks({ limit: 200 }, { signal }).page()).tasks;
  } catch (error) {
    // The page still opens, and shows what the browser has stored.
    console.error(error);
    return null;
  }
}
