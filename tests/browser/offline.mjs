// Devices that use the collection for TanStack DB, with real tabs, storage and locks. Each device is a browser context.
// Every scenario has a user of its own. Its result, or its error, is printed under its name.

import { build } from "esbuild";

import { run } from "./chromium.mjs";

const PAGE = `
import { createCollection } from "@tanstack/db";
import { createClient } from "@taskwell/client";
import { taskCollectionOptions } from "@taskwell/client/tanstack-db";

window.start = ({ api, user, token, merges }) => {
  window.token = token;
  window.conflicts = [];
  const merge = (conflict) => {
    conflicts.push(conflict);
    if (conflict.mine.title === "nothing") return {};
    return { title: conflict.theirs.title + " and " + conflict.mine.title };
  };
  const client = createClient({ url: api, auth: async () => window.token });
  window.tasks = createCollection(taskCollectionOptions({ client, user, ...(merges && { merge }) }));
};
window.rows = () => tasks.toArray.map(({ key, id, title, description, complete, unsent }) =>
  ({ key, id, title, description, complete, unsent }));
window.titles = () => rows().map(({ title }) => title).sort();
window.keyOf = (title) => rows().find((row) => row.title === title).key;
window.state = () => tasks.utils.state();
// What the user writes shows at once, and is stored a moment later.
window.change = (title, changes) =>
  tasks.update(keyOf(title), (draft) => void Object.assign(draft, changes)).isPersisted.promise;
window.add = async (...titles) => {
  for (const title of titles) await tasks.insert({ title }).isPersisted.promise;
};
`;

const HANGS_MILLISECONDS = 4000;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

await run(async (first, { api, app, users, folder }) => {
  const browser = first.browser();
  const stdin = { contents: PAGE, resolveDir: folder };
  const body = (await build({ stdin, bundle: true, format: "iife", write: false })).outputFiles[0].text;

  async function device() {
    const context = await browser.newContext();
    await context.route(`${app}/`, (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
    return context;
  }

  async function tab(context, user, options = {}) {
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    await page.goto(`${app}/`);
    await page.evaluate(body);
    await page.evaluate((given) => window.start(given), { api, ...user, ...options });
    return page;
  }

  /** What another device of the user does, without the adapter. */
  function service({ user, token }) {
    const call = async (method, path, content) => {
      const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
      const response = await fetch(`${api}/api/${user}${path}`, { method, headers, body: JSON.stringify(content) });
      return response.status === 204 ? undefined : response.json();
    };
    return {
      titles: async () => (await call("GET", "/tasks")).tasks.map(({ title }) => title).sort(),
      id: async (title) => (await call("GET", "/tasks")).tasks.find((task) => task.title === title).id,
      create: (title) => call("POST", "/tasks", { title }),
      patch: (id, changes) => call("PATCH", `/tasks/${id}`, changes),
      delete: (id) => call("DELETE", `/tasks/${id}`),
      erase: () => call("DELETE", `?confirm=${user}`),
    };
  }

  const synced = (page) =>
    page.waitForFunction(() => tasks.status === "ready" && state().online && state().unsent === 0);
  const shows = (page, ...titles) =>
    page.waitForFunction((wanted) => JSON.stringify(window.titles()) === wanted, JSON.stringify(titles.sort()));

  /** Withholds the response to the first batch that is carried out. Returns when it is. */
  const lostResponse = (page) =>
    new Promise((resolve) => {
      void page.route("**/tasks/batch", async (route) => {
        const response = await route.fetch();
        if (response.ok()) resolve(() => route.fulfill({ response }));
        else await route.fulfill({ response });
      });
    });

  async function kill(page) {
    const crashed = new Promise((resolve) => page.once("crash", resolve));
    const session = await page.context().newCDPSession(page);
    session.send("Page.crash").catch(() => {});
    await crashed;
  }

  const scenarios = {
    /** The tab is killed when the service has carried out the first batch, before its response arrives. */
    async offline(user) {
      const here = await device();
      const page = await tab(here, user);
      const other = await tab(await device(), user);
      await page.evaluate(() => add("a", "b", "c", "d", "e"));
      await shows(other, "a", "b", "c", "d", "e");
      await synced(page);
      await here.setOffline(true);
      const atOnce = await page.evaluate(() => {
        for (let number = 0; number < 15; number++) tasks.insert({ title: `new ${number}` });
        for (let number = 0; number < 8; number++) change(`new ${number}`, { title: `changed ${number}` });
        change("a", { complete: true });
        change("b", { title: "b changed" });
        change("b changed", { description: "twice" });
        change("c", { description: "here" });
        for (const title of ["d", "new 13", "new 14"]) tasks.delete(keyOf(title));
        return titles().length;
      });
      await page.waitForFunction(() => state().unsent === 17);
      await page.close();
      await other.evaluate(() => change("c", { title: "c changed elsewhere" }));
      await synced(other);
      const again = await tab(here, user);
      await again.waitForFunction(() => tasks.status === "ready" && titles().length > 0);
      const afterReload = await again.evaluate(() => [titles().length, state().unsent, state().online]);
      const carriedOut = lostResponse(again);
      await here.setOffline(false);
      await carriedOut;
      await kill(again);
      const third = await tab(here, user, { merges: true });
      await synced(third);
      const wanted = await service(user).titles();
      await Promise.all([shows(third, ...wanted), shows(other, ...wanted)]);
      const flat = (page) =>
        page.evaluate(() => {
          const flat = rows().map(({ key, ...row }) => row);
          return JSON.stringify(flat.sort((a, b) => a.id - b.id));
        });
      const [refused, conflicts] = await third.evaluate(() => [state().refused, conflicts]);
      return { atOnce, afterReload, wanted, refused, conflicts, isSame: (await flat(third)) === (await flat(other)) };
    },

    /** The user goes on while the creation is on its way. */
    async creation(user) {
      const page = await tab(await device(), user);
      const carriedOut = lostResponse(page);
      await page.evaluate(() => add("Buy mlik"));
      const answer = await carriedOut;
      // The stream and the changes tell of the task before the response does.
      await pause(500);
      const during = await page.evaluate(() => titles());
      const before = await page.evaluate(() => rows()[0]);
      await page.evaluate(() => change("Buy mlik", { title: "Buy milk" }));
      await page.evaluate(() => change("Buy milk", { complete: true }));
      await answer();
      await page.unroute("**/tasks/batch");
      await synced(page);
      const after = await page.evaluate(() => rows());
      const { key, id, ...row } = after[0];
      const kept = { isSameKey: key === before.key, hasId: id > 0, row };
      return { during, before: before.id, ...kept, all: await service(user).titles() };
    },

    async refused(user) {
      const here = await device();
      const page = await tab(here, user);
      await page.evaluate(() => add("gone", "kept"));
      await synced(page);
      await here.setOffline(true);
      await page.evaluate(() => add("one", "x".repeat(201), "two"));
      await page.evaluate(() => change("gone", { complete: true }));
      await page.evaluate(() => change("kept", { title: "changed" }));
      await service(user).delete(await service(user).id("gone"));
      await here.setOffline(false);
      await synced(page);
      await shows(page, "one", "two", "changed");
      const refused = await page.evaluate(() => state().refused.map(({ op, code, values }) => [op, code, values]));
      // The user sees it in another tab, too, until it is dismissed.
      const other = await tab(here, user);
      await other.waitForFunction(() => state().refused.length === 2);
      await other.evaluate(() => Promise.all(state().refused.map((each) => tasks.utils.dismiss(each))));
      await page.waitForFunction(() => state().refused.length === 0);
      return { refused, all: await service(user).titles() };
    },

    async conflict(user) {
      const here = await device();
      const asks = await tab(here, user, { merges: true });
      await asks.evaluate(() => add("theirs", "both", "unwanted", "left"));
      await synced(asks);
      const elsewhere = await device();
      const other = await tab(elsewhere, user);
      await shows(other, "both", "theirs", "unwanted", "left");
      await here.setOffline(true);
      await elsewhere.setOffline(true);
      await asks.evaluate(() => change("both", { title: "mine" }));
      await other.evaluate(() => change("both", { title: "refused" }));
      await other.evaluate(() => change("theirs", { complete: true }));
      await other.evaluate(() => tasks.delete(keyOf("unwanted")).isPersisted.promise);
      await asks.evaluate(() => change("left", { title: "nothing" }));
      const elsewhereChanged = { both: { title: "first" }, theirs: { description: "Oat" } };
      Object.assign(elsewhereChanged, { unwanted: { complete: true }, left: { title: "left alone" } });
      for (const [title, changes] of Object.entries(elsewhereChanged)) {
        await service(user).patch(await service(user).id(title), changes);
      }
      await here.setOffline(false);
      await synced(asks);
      await elsewhere.setOffline(false);
      await synced(other);
      await Promise.all([asks, other].map((page) => shows(page, "first and mine", "left alone", "theirs")));
      const conflicts = await asks.evaluate(() =>
        conflicts.map(({ mine, theirs, base }) => [mine, theirs.title, base.title]));
      const refused = await other.evaluate(() => state().refused.map(({ op, code, values }) => [op, code, values]));
      const merged = await other.evaluate(() => rows().filter(({ title }) => title === "theirs"));
      return { conflicts, refused, merged: merged.map(({ description, complete }) => [description, complete]) };
    },

    async tabs(user) {
      const here = await device();
      let streams = 0;
      here.on("request", (request) => (streams += Number(request.url().endsWith("/events"))));
      const one = await tab(here, user);
      await one.evaluate(() => add("of one"));
      await synced(one);
      const two = await tab(here, user);
      await shows(two, "of one");
      const three = await tab(here, user);
      await three.evaluate(() => add("of three"));
      await two.evaluate(() => add("of two"));
      await one.evaluate(() => add("one more"));
      const all = ["of one", "of two", "of three", "one more"];
      await Promise.all([one, two, three].map((page) => shows(page, ...all)));
      await Promise.all([one, two, three].map(synced));
      const leaders = await one.evaluate(async () => {
        const { held, pending } = await navigator.locks.query();
        return [held.length, pending.length];
      });
      const perTab = streams;
      await three.close();
      await service(user).create("after the leader was closed");
      all.push("after the leader was closed");
      await Promise.all([one, two].map((page) => shows(page, ...all)));
      // The one that leads now does not answer any more, as if it were frozen. The user goes to the other one.
      const isLeader = await one.evaluate(() =>
        navigator.locks.request("mine", async () => {
          const { held } = await navigator.locks.query();
          return held.every(({ clientId }) => clientId === held[0].clientId);
        }),
      );
      const [leader, follower] = isLeader ? [one, two] : [two, one];
      let hangs = true;
      const end = leader
        .evaluate((milliseconds) => {
          for (const start = Date.now(); Date.now() < start + milliseconds; );
        }, HANGS_MILLISECONDS)
        .then(() => (hangs = false));
      await follower.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
      await follower.evaluate(() => add("while the leader did not answer"));
      await service(user).create("elsewhere");
      all.push("while the leader did not answer", "elsewhere");
      await shows(follower, ...all);
      await synced(follower);
      const hung = hangs;
      await end;
      await shows(leader, ...all);
      return { leaders, perTab, hung, all: (await service(user).titles()).length };
    },

    async gone(user) {
      const here = await device();
      const page = await tab(here, user);
      await page.evaluate(() => add("before", "also before"));
      await synced(page);
      await here.setOffline(true);
      await page.evaluate(() => add("written offline"));
      await page.evaluate(() => change("before", { complete: true }));
      await service(user).erase();
      await service(user).create("after");
      await here.setOffline(false);
      await shows(page, "after", "written offline");
      await synced(page);
      const refused = await page.evaluate(() => state().refused.map(({ code }) => code));
      return { refused, all: await service(user).titles() };
    },

    async users(alice) {
      const bob = users.at(-1);
      const here = await device();
      const page = await tab(here, alice);
      await page.evaluate(() => add("of alice"));
      await synced(page);
      await here.setOffline(true);
      await page.evaluate(() => add("not sent yet"));
      await page.close();
      const offline = await tab(here, bob);
      await pause(300);
      const seenOffline = await offline.evaluate(() => titles());
      await here.setOffline(false);
      await synced(offline);
      await offline.evaluate(() => add("of bob"));
      await synced(offline);
      const seenByBob = await offline.evaluate(() => titles());
      // The page still believes that it is Alice's.
      const mistaken = await tab(here, { user: alice.user, token: bob.token });
      await mistaken.waitForFunction(() => state().error?.startsWith("UserChanged"));
      const ofBob = await service(bob).titles();
      const ofAlice = await service(alice).titles();
      await mistaken.evaluate((token) => (window.token = token), alice.token);
      await mistaken.close();
      const back = await tab(here, alice);
      await synced(back);
      const seen = { seenOffline, seenByBob, ofBob, ofAlice, now: await service(alice).titles() };
      await back.evaluate(async () => {
        await tasks.cleanup();
        await tasks.utils.clear();
      });
      await here.setOffline(true);
      const cleared = await tab(here, alice);
      await cleared.waitForFunction(() => tasks.status === "ready");
      return { ...seen, cleared: await cleared.evaluate(() => titles()) };
    },
  };

  const names = Object.keys(scenarios);
  const seen = {};
  for (const [index, name] of names.entries()) {
    seen[name] = await scenarios[name](users[index]).catch((error) => String(error.stack));
    await Promise.all(browser.contexts().map((context) => context !== first && context.close()));
  }
  return seen;
});
