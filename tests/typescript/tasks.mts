// An application that uses the client of examples/better-auth.

import { AuthServerError, SignedOut, UserChanged, taskApi } from "./client.mjs";

const tasks = taskApi("https://tasks.example.com");

export const fetchOptions: { customFetchImpl: typeof fetch } = { customFetchImpl: tasks.authFetch };

export async function titles(): Promise<string[]> {
  try {
    const response: Response = await tasks("?limit=5", { headers: new Headers({ "X-Request-ID": "1" }) });
    const { tasks: list } = (await response.json()) as { tasks: { title: string }[] };
    return list.map((task) => task.title);
  } catch (error) {
    if (error instanceof SignedOut || error instanceof UserChanged) location.reload();
    if (error instanceof AuthServerError) error.status.toFixed();
    return [];
  }
}

// @ts-expect-error A path is a string.
tasks(5);
