// The collection for TanStack DB where there are no tabs, as in Node and React Native.

import "fake-indexeddb/auto";

import { createCollection } from "@tanstack/db";
import { createClient } from "@taskwell/client";
import { taskCollectionOptions } from "@taskwell/client/tanstack-db";

Object.defineProperty(globalThis, "navigator", { value: undefined });
delete globalThis.BroadcastChannel;

const [, , json] = process.argv;
const { url, user, tokens, titles } = JSON.parse(json);
const sizes = [];

const client = createClient({
  url,
  auth: async () => tokens[0],
  fetch(input, init) {
    if (init.method === "POST") sizes.push(JSON.parse(init.body).operations.length);
    return fetch(input, init);
  },
});
const tasks = createCollection(taskCollectionOptions({ client, user }));

async function synced() {
  await tasks.preload();
  while (tasks.utils.state().unsent > 0) await new Promise((resolve) => tasks.utils.subscribe(resolve));
}

await synced();
// Each is too long, and together they are too large for one request.
const description = "x".repeat(400_000);
await tasks.insert([...titles.map((title) => ({ title })), ...[1, 2, 3].map(() => ({ title: "no", description }))])
  .isPersisted.promise;
await synced();
const { refused, error } = tasks.utils.state();
const found = tasks.toArray.map(({ title, unsent }) => [title, unsent]).sort();
console.log(JSON.stringify({ found, refused: refused.map(({ code }) => code), error, sizes }));
process.exit(0);
