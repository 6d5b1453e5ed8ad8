// Mistakes that the compiler must find. This is compiled but never run.

import { ApiError, createClient, type TaskwellClient } from "@taskwell/client";
import { createAuthClient } from "better-auth/client";
import { jwtClient } from "better-auth/client/plugins";

const url = "https://tasks.example.com";

export const withPlugin = createClient({ url, auth: createAuthClient({ plugins: [jwtClient()] }) });
// @ts-expect-error Better Auth's client has no tokens without the plugin
export const withoutPlugin = createClient({ url, auth: createAuthClient() });
// @ts-expect-error tokens are fetched again and again
export const withToken = createClient({ url, auth: "token" });

export async function mistakes(client: TaskwellClient, error: unknown) {
  const task = await client.create({ title: "Buy milk" });
  // @ts-expect-error the member is called `complete`
  await client.patch(task, { completed: true });
  // @ts-expect-error a replacement has all members
  await client.replace(task, { title: "Buy bread" });
  // @ts-expect-error the parameter is called `complete`
  client.tasks({ completed: true });
  // @ts-expect-error there is no such operation
  await client.batch([{ op: "update", id: task.id, task: { title: "Buy bread" } }]);
  // @ts-expect-error there is no such code
  return error instanceof ApiError && error.code === "CONFLICT";
}

export async function correct(client: TaskwellClient) {
  const task = await client.create({ title: "Buy milk" });
  await client.replace(task, { ...task, complete: true });
  await client.patch(task, { description: null });
  for await (const listed of client.tasks({ sort: "-title" })) await client.delete(listed);
  for await (const deleted of client.trash()) await client.restore(deleted);
}
