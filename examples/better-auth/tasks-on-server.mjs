// Calls the task API on the server, for the user whose request is being rendered.

import { auth } from "./auth.mjs";

/**
 * Requests `path` below the user's tasks. Returns undefined if nobody is signed in.
 * @param {Headers} headers The headers of the user's request; in Next.js, `await headers()`.
 */
export async function tasksOnServer(headers, path = "", options = {}) {
  const session = await auth.api.getSession({ headers });
  if (!session) return undefined;
  const { token } = await auth.api.getToken({ headers });
  const url = `${process.env.TASK_API}/api/${encodeURIComponent(session.user.id)}/tasks${path}`;
  return fetch(url, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` }, cache: "no-store" });
}
