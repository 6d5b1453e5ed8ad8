// Two users share a browser. Pages use the example's client, a real Better Auth and the real API, each on its own host.

import { build } from "esbuild";

import { run } from "./chromium.mjs";

const PASSWORD = "correct horse battery staple";

/** Better Auth's own client, as a module that a page can load. */
async function betterAuthClient(folder) {
  const contents = 'export { createAuthClient } from "better-auth/client"';
  const { outputFiles } = await build({ stdin: { contents, resolveDir: folder }, bundle: true, format: "esm", write: false });
  return outputFiles[0].text;
}

/** Opens a page that has, as globals: the client, its errors, and functions to sign in and out. */
async function openPage(context, { app, auth, api, example }) {
  const page = await context.newPage();
  await page.route("**/better-auth-client.mjs", async (route) =>
    route.fulfill({ contentType: "text/javascript", body: await betterAuthClient(example) }),
  );
  await page.goto(app);
  await page.evaluate(
    async ({ auth, api, password }) => {
      const { createAuthClient } = await import("/better-auth-client.mjs");
      const { taskApi, SignedOut, UserChanged, AuthServerError } = await import("/client.mjs");
      window.tasks = taskApi(api, auth);
      window.betterAuth = createAuthClient({ baseURL: auth, fetchOptions: { customFetchImpl: tasks.authFetch } });
      window.unwiredBetterAuth = createAuthClient({ baseURL: auth });
      const post = async (path, body) => {
        const response = await tasks.authFetch(`${auth}${path}`, {
          method: "POST",
          credentials: "include",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
        });
        return response.json();
      };
      window.who = (name) => ({ name, email: `${name}@example.org`, password });
      window.signUp = (name) => post("/sign-up/email", who(name));
      window.signIn = (name) => post("/sign-in/email", who(name));
      window.signOut = () => post("/sign-out", {});
      // Waits until the browser has recorded `count` requests to `path`.
      window.recorded = async (path, count = 1) => {
        while (performance.getEntriesByName(auth + path).length < count) await new Promise((done) => setTimeout(done, 10));
      };
      window.add = (title) => tasks("", { method: "POST", body: JSON.stringify({ title }) });
      window.titles = async () => (await (await tasks()).json()).tasks.map(({ title }) => title);
      window.failure = async (call) => {
        try {
          await call();
        } catch (error) {
          const kind = [SignedOut, UserChanged, AuthServerError].find((kind) => error instanceof kind);
          return error.name === kind?.name ? [error.name, error.status ?? null] : String(error);
        }
      };
    },
    { auth, api, password: PASSWORD },
  );
  return page;
}

const scenarios = {
  async sameTab(page) {
    return page.evaluate(async () => {
      const seen = {};
      await signUp("bob");
      await signOut();
      await signUp("alice");
      await add("of alice");
      seen.alice = await titles();
      await signOut();
      seen.signedOut = await failure(titles);
      seen.stillSignedOut = await failure(() => add("of nobody"));
      await signIn("bob");
      await add("of bob");
      seen.bob = await titles();
      await signIn("alice");
      seen.aliceAgain = await titles();
      return seen;
    });
  },

  async betterAuthClient(page) {
    return page.evaluate(async () => {
      const seen = {};
      await betterAuth.signUp.email(who("bob"));
      await betterAuth.signOut();
      await betterAuth.signUp.email(who("alice"));
      await add("of alice");
      await betterAuth.signOut();
      seen.signedOut = await failure(titles);
      await betterAuth.signIn.email(who("bob"));
      await add("of bob");
      seen.bob = await titles();
      await betterAuth.signIn.email(who("alice"));
      seen.aliceAgain = await titles();
      return seen;
    });
  },

  async unwired(page) {
    return page.evaluate(async () => {
      const seen = {};
      await unwiredBetterAuth.signUp.email(who("bob"));
      await unwiredBetterAuth.signOut();
      await unwiredBetterAuth.signUp.email(who("alice"));
      await recorded("/sign-up/email", 2);
      await add("of alice");
      await unwiredBetterAuth.signIn.email(who("bob"));
      await recorded("/sign-in/email");
      await add("of bob");
      seen.bob = await titles();
      await unwiredBetterAuth.signOut();
      await recorded("/sign-out", 2);
      seen.signedOut = await failure(titles);
      return seen;
    });
  },

  async anotherTab(page, args) {
    const seen = {};
    await page.evaluate(async () => {
      await signUp("bob");
      await signOut();
      await signUp("alice");
      await add("of alice");
    });
    const other = await openPage(page.context(), args);
    await other.evaluate(async () => {
      await signOut();
      await signIn("bob");
      await add("of bob");
    });
    const back = () => window.dispatchEvent(new Event("focus"));
    seen.first = await page.evaluate(`(${back})(), failure(() => add("typed by alice"))`);
    seen.second = await page.evaluate(() => failure(titles));
    seen.reloaded = await (await openPage(page.context(), args)).evaluate(() => titles());
    return seen;
  },

  async whileWaiting(page, { api }) {
    let waiting;
    const arrived = new Promise((resolve) => (waiting = resolve));
    await page.evaluate(async () => {
      await signUp("bob");
      await signOut();
      await signUp("alice");
      await add("of alice");
    });
    let release;
    await page.route(`${api}/**`, async (route) => {
      waiting();
      await new Promise((resolve) => (release = resolve));
      await route.continue();
    });
    const late = page.evaluate(() => failure(titles));
    await arrived;
    await page.evaluate(async () => {
      await signOut();
      await signIn("bob");
    });
    release();
    return { late: await late };
  },

  async sessionEnds(page, { api }) {
    const calls = [];
    page.on("request", (request) => request.url().startsWith(api) && calls.push(request.method()));
    await page.clock.install();
    await page.evaluate(async () => {
      await signUp("alice");
      await add("of alice");
    });
    await page.context().clearCookies();
    await page.clock.fastForward(14.5 * 60_000);
    const before = calls.length;
    const failures = await page.evaluate(async () => [await failure(titles), await failure(titles)]);
    return { failures, callsAfter: calls.length - before };
  },

  async renewal(page, { api, auth }) {
    const tokens = [];
    page.on("request", (request) => request.url() === `${auth}/token` && tokens.push(request));
    await page.evaluate(() => signUp("alice").then(() => recorded("/sign-up/email")));
    await page.clock.install();
    const seen = { statuses: await page.evaluate(() => Promise.all([add("a"), tasks()]).then((all) => all.map((each) => each.status))) };
    seen.concurrent = tokens.length;
    await page.clock.fastForward(13 * 60_000);
    await page.evaluate(() => titles());
    seen.after13Minutes = tokens.length;
    await page.clock.fastForward(1.5 * 60_000);
    await page.evaluate(() => titles());
    seen.after14Minutes = tokens.length;
    await page.route(`${api}/**`, (route) => {
      if (route.request().method() === "OPTIONS") return route.continue();
      return route.fulfill({ status: 401, headers: { "Access-Control-Allow-Origin": "*" } });
    }, { times: 1 });
    seen.refusedOnce = await page.evaluate(() => titles());
    seen.afterRefusal = tokens.length;
    return seen;
  },

  async authServerFails(page, { auth }) {
    await page.evaluate(() => signUp("alice"));
    const headers = { "Access-Control-Allow-Origin": new URL(page.url()).origin, "Access-Control-Allow-Credentials": "true" };
    await page.route(`${auth}/token`, (route) => route.fulfill({ status: 429, headers }), { times: 1 });
    return { failure: await page.evaluate(() => failure(titles)), next: await page.evaluate(() => titles()) };
  },

  async headers(page) {
    return page.evaluate(async () => {
      await signUp("alice");
      const sent = { "X-Request-ID": "chosen-by-the-page" };
      const read = async (headers) => (await tasks("", { headers })).headers.get("X-Request-ID");
      return { read: [await read(sent), await read(new Headers(sent)), await read(Object.entries(sent))] };
    });
  },
};

await run(async (context, args) => scenarios[args.scenario](await openPage(context, args), args));
