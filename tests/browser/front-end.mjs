// Two people use the page of docs/front-end.md, each in a browser of their own.

import { run } from "./chromium.mjs";

const PASSWORD = "correct horse battery staple";

async function open(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  const enter = async (name, button) => {
    await page.getByLabel("E-mail").fill(`${name}@example.org`);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: button }).click();
  };
  const add = async (title) => {
    await page.getByLabel("New task").fill(title);
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByRole("listitem").getByText(title).waitFor();
  };
  const status = async (text) => page.getByRole("status").getByText(text).waitFor();
  const titles = () => page.getByRole("listitem").allTextContents();
  return { page, enter, add, status, titles };
}

await run(async (context, { url }) => {
  const seen = {};
  const alice = await open(context, url);
  await alice.enter("alice", "Sign in");
  await alice.status("Invalid email or password");
  await alice.enter("alice", "Sign up");
  await alice.status("0 to do");
  await alice.add("Buy milk");
  await alice.add("<b>Water</b> the plants");
  await alice.page.reload();
  await alice.status("2 to do");
  seen.alice = await alice.titles();

  const bob = await open(await context.browser().newContext(), url);
  await bob.enter("bob", "Sign up");
  await bob.status("0 to do");
  seen.bob = await bob.titles();
  return seen;
});
