// Two users share a page that uses @taskwell/client with Better Auth's own client, a real Better Auth and the real API.

import { build } from "esbuild";

import { run, watchedPage } from "./chromium.mjs";

const PAGE = `
import { createClient } from "@taskwell/client";
import { createAuthClient } from "better-auth/client";
import { jwtClient } from "better-auth/client/plugins";
import { fetch, Headers, Request, Response } from "whatwg-fetch";

export function start({ auth, api }) {
  window.betterAuth = createAuthClient({ baseURL: auth, plugins: [jwtClient()] });
  window.client = createClient({ url: api, auth: betterAuth });
}

// React Native has this fetch, and not the rest.
export async function startAsInReactNative({ api }) {
  const { data } = await betterAuth.token();
  Object.assign(window, { fetch, Headers, Request, Response });
  delete Crypto.prototype.randomUUID;
  for (const name of ["any", "timeout"]) delete AbortSignal[name];
  for (const name of ["TextDecoder", "structuredClone"]) delete window[name];
  window.client = createClient({ url: api, auth: async () => data.token });
}
`;

/** The code of the page, bundled as front ends do it. */
async function bundle(folder) {
  const stdin = { contents: PAGE, resolveDir: folder };
  const nodePaths = [new URL("node_modules", import.meta.url).pathname];
  const { outputFiles } = await build({ stdin, nodePaths, bundle: true, format: "esm", write: false });
  return outputFiles[0].text;
}

/** Runs in the page. */
function prepare() {
  const who = (name) => ({ name, email: `${name}@example.org`, password: "correct horse battery staple" });
  const changed = () => new Promise((resolve) => setTimeout(resolve, 50));
  window.signUp = (name) => betterAuth.signUp.email(who(name)).then(changed);
  window.signIn = (name) => betterAuth.signIn.email(who(name)).then(changed);
  window.signOut = () => betterAuth.signOut().then(changed);
  window.titles = async () => (await client.tasks().page()).tasks.map(({ title }) => title);
  window.failure = async (promise) => promise.then(() => "no error", ({ name }) => name);
  window.watched = [];
  window.watch = async () => {
    for await (const { tasks } of client.watch()) watched.push(...tasks.map(({ title }) => title));
  };
  window.until = async (title) => {
    while (!watched.includes(title)) await changed();
  };
}

await run(async (context, { app, auth, api, folder }) => {
  const { page, requested, complaints } = await watchedPage(context);
  const body = await bundle(folder);
  await page.route("**/page.mjs", (route) => route.fulfill({ contentType: "text/javascript", body }));
  await page.goto(app);
  await page.evaluate(prepare);
  const seen = await page.evaluate(
    async ({ auth, api }) => {
      (await import("/page.mjs")).start({ auth, api });
      const seen = { nobody: await failure(titles()) };
      await signUp("bob");
      await signOut();
      await signUp("alice");
      window.stream = failure(watch());
      await client.create({ title: "of alice" });
      await until("of alice");
      const task = (await client.tasks().page()).tasks[0];
      await client.patch(task, { title: "changed by alice" });
      await until("changed by alice");
      seen.alice = await titles();
      return seen;
    },
    { auth, api },
  );
  const waiting = new Promise((resolve) => {
    void page.route(`${api}/**`, async (route) => {
      resolve(route);
    });
  });
  const late = page.evaluate(() => failure(titles()));
  const route = await waiting;
  await page.unroute(`${api}/**`);
  await page.evaluate(async () => {
    await signOut();
    await signIn("bob");
  });
  await route.continue();
  seen.late = await late;
  seen.stream = await page.evaluate(() => window.stream);
  seen.bob = await page.evaluate(titlesOfBob);
  seen.reactNative = await page.evaluate(asInReactNative, { api });
  seen.tokens = requested.filter((url) => url === `${auth}/token`).length;
  seen.complaints = complaints.filter((text) => !text.includes("status of 4"));
  return seen;
});

async function asInReactNative(origins) {
  await (await import("/page.mjs")).startAsInReactNative(origins);
  const bread = await client.create({ title: "Buy bread" });
  await client.patch((await client.tasks({ q: "bread" }).page()).tasks[0], { complete: true });
  const errors = [];
  const fails = async (call) => call().catch(({ name }) => errors.push(name));
  await fails(() => client.patch(bread, { complete: false }));
  await fails(() => client.events()[Symbol.asyncIterator]().next());
  await fails(() => client.get(1, { signal: AbortSignal.abort() }));
  const { value: changes } = await client.changes()[Symbol.asyncIterator]().next();
  const exported = (await (await client.export()).text()).trim().split("\n").length;
  return { titles: [await titles(), await titles()], errors, changes: changes.tasks.length, exported };
}

async function titlesOfBob() {
  await client.create({ title: "of bob" });
  return titles();
}
