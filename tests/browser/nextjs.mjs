// Two people use examples/nextjs, one of them on two devices. A device is a browser context.

import { gzipSync } from "node:zlib";

import { findings } from "./accessibility.mjs";
import { run } from "./chromium.mjs";

const PASSWORD = "correct horse battery staple";
const WIDTHS = [1280, 390];
const SCHEMES = ["light", "dark"];

await run(async (first, { app, api, folder }) => {
  const seen = { findings: [], complaints: [], sizes: {} };

  async function open(context, path = "/") {
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => seen.complaints.push(String(error)));
    await page.goto(`${app}${path}`);
    const named = (role, name) => page.getByRole(role, { name, exact: true });
    const click = (role, name) => named(role, name).click();
    return {
      page,
      named,
      click,
      async enter(name, button) {
        await page.getByLabel("E-mail").fill(`${name}@example.org`);
        await page.getByLabel("Password").fill(PASSWORD);
        await click("button", button);
        await page.waitForURL(`${app}/`);
      },
      async add(title) {
        await page.getByLabel("New task").fill(title);
        await page.keyboard.press("Enter");
        await page.locator(".title").getByText(title, { exact: true }).waitFor();
      },
      async rename(title, changed, description) {
        await click("button", `Edit ${title}`);
        await page.getByLabel("Title").fill(changed);
        if (description) await page.getByLabel("Description").fill(description);
        await page.keyboard.press("Tab");
        await click("button", "Save");
        await named("button", `Edit ${changed}`).waitFor();
      },
      shows: (title) => page.locator(".title").getByText(title, { exact: true }).waitFor(),
      hides: (title) => page.locator(".title").getByText(title, { exact: true }).waitFor({ state: "detached" }),
      status: (text) => page.locator(".status").getByText(text, { exact: true }).waitFor(),
      titles: () => page.locator(".title").allTextContents(),
      /** What Taskwell has. */
      stored: () =>
        page.evaluate(async (api) => {
          const { token } = await (await fetch("/api/auth/token")).json();
          const { sub } = JSON.parse(atob(token.split(".")[1]));
          const headers = { Authorization: `Bearer ${token}` };
          return (await (await fetch(`${api}/api/${sub}/tasks`, { headers })).json()).tasks;
        }, api),
    };
  }

  /** Looks at the page in all widths and colors. */
  async function look(page, name) {
    for (const width of WIDTHS) {
      for (const colorScheme of SCHEMES) {
        await page.setViewportSize({ width, height: width > 600 ? 800 : 844 });
        await page.emulateMedia({ colorScheme });
        await page.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png` });
        for (const each of await findings(page)) seen.findings.push(`${name} ${width} ${colorScheme} ${each}`);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (overflow > 0) seen.findings.push(`${name} ${width} is ${overflow} pixels too wide`);
      }
    }
    await page.setViewportSize({ width: WIDTHS[0], height: 800 });
  }

  /** The size of the scripts that a page loads, as servers send them. */
  async function scriptBytes(page) {
    const urls = await page.evaluate(() =>
      performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => name.endsWith(".js")),
    );
    const sizes = [...new Set(urls)].map(async (url) => gzipSync(await (await fetch(url)).text()).length);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  // Without an account, the tasks lead to the sign-in.
  const alice = await open(first);
  await alice.click("link", "Create an account");
  await alice.page.waitForURL(`${app}/sign-up`);
  await look(alice.page, "sign-up");
  seen.sizes.account = await scriptBytes(alice.page);
  await alice.enter("alice", "Sign up");
  await alice.add("Buy milk");
  await alice.add("Water the plants");
  await alice.click("checkbox", "Water the plants");
  await alice.hides("Water the plants");
  await alice.rename("Buy milk", "Buy oat milk", "Two bottles");
  seen.focusAfterEdit = await alice.page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  await alice.add("Call Ada");
  await alice.status("Saved");
  seen.open = await alice.titles();
  await alice.page.getByText("Done", { exact: true }).click();
  await alice.shows("Water the plants");
  seen.done = await alice.titles();
  await alice.page.getByText("All", { exact: true }).click();
  await alice.page.getByLabel("Sort").selectOption("By title");
  await alice.shows("Call Ada");
  seen.sorted = await alice.titles();
  await alice.page.getByLabel("Search").fill("BOTTLE");
  await alice.hides("Call Ada");
  seen.found = await alice.titles();
  await alice.page.getByLabel("Search").fill("");
  await alice.page.getByText("Open", { exact: true }).click();

  // The server has rendered the tasks, and a second tab follows.
  const html = await (await first.request.get(`${app}/`)).text();
  seen.rendered = ["Buy oat milk", "Two bottles", "Call Ada"].map((text) => html.includes(text));
  const second = await open(first);
  await second.shows("Call Ada");
  seen.sizes.tasks = await scriptBytes(second.page);
  await alice.add("In both tabs");
  await second.shows("In both tabs");
  await second.status("Saved");

  // A deletion that is taken back is the same task.
  const before = await alice.stored();
  await alice.click("button", "Delete Call Ada");
  await second.hides("Call Ada");
  await look(alice.page, "undo");
  await alice.page.keyboard.press("Enter");
  await second.shows("Call Ada");
  await alice.shows("Call Ada");
  const ids = (tasks) => tasks.map(({ id }) => id).sort();
  seen.isSameAfterUndo = JSON.stringify(ids(before)) === JSON.stringify(ids(await alice.stored()));

  // Without a network.
  await first.setOffline(true);
  await alice.status("Offline");
  await alice.add("Written offline");
  await alice.rename("Call Ada", "Call Ada today");
  await alice.click("checkbox", "In both tabs");
  await alice.click("button", "Delete Written offline");
  await alice.click("button", "Undo");
  await alice.status("Offline. 3 changes kept on this device");
  await second.shows("Written offline");
  await look(alice.page, "offline");
  // The service worker opens the app without the server.
  await second.page.reload();
  await second.shows("Written offline");
  await second.status("Offline. 3 changes kept on this device");
  await first.setOffline(false);
  await alice.status("Saved");
  await second.status("Saved");
  seen.afterOffline = (await alice.stored()).map(({ title, complete }) => [title, complete]);
  seen.bothTabs = [await alice.titles(), await second.titles()];

  // A second device changes the task that the first one changes offline.
  const elsewhere = await open(await first.browser().newContext(), "/sign-in");
  await elsewhere.enter("alice", "Sign in");
  await elsewhere.shows("Call Ada today");
  await first.setOffline(true);
  await alice.status("Offline");
  await alice.rename("Call Ada today", "Call Ada at nine");
  await elsewhere.rename("Call Ada today", "Call Ada at ten");
  await elsewhere.status("Saved");
  await first.setOffline(false);
  await alice.page.getByText("You and another device have changed the same task.").waitFor();
  await alice.page.locator(".refusal").getByText("Call Ada at ten").waitFor();
  seen.conflict = await alice.page.locator(".refusal dd").allTextContents();
  await look(alice.page, "conflict");
  await alice.click("button", "Keep mine");
  await alice.page.locator(".refusal").waitFor({ state: "detached" });
  await elsewhere.shows("Call Ada at nine");
  await alice.click("button", "Edit Buy oat milk");
  await look(alice.page, "editor");
  await alice.page.keyboard.press("Escape");
  seen.afterConflict = await elsewhere.titles();

  // Another user of the same browser.
  await second.page.bringToFront();
  await alice.click("button", "Sign out");
  await alice.page.waitForURL(`${app}/sign-in`);
  await second.page.waitForURL(`${app}/sign-in`);
  const bob = await open(first, "/sign-up");
  await bob.enter("bob", "Sign up");
  await bob.page.getByText("Nothing to do.", { exact: false }).waitFor();
  await bob.add("Of Bob");
  await bob.status("Saved");
  seen.ofBob = await bob.titles();
  seen.leftOfAlice = await bob.page.evaluate(async () => {
    let found = 0;
    for (const { name } of await indexedDB.databases()) {
      const opened = await new Promise((done) => (indexedDB.open(name).onsuccess = ({ target }) => done(target.result)));
      const store = opened.transaction("tasks").objectStore("tasks");
      const rows = await new Promise((done) => (store.getAll().onsuccess = ({ target }) => done(target.result)));
      found += rows.filter(({ task }) => task.title !== "Of Bob").length;
    }
    return found;
  });
  return seen;
});
