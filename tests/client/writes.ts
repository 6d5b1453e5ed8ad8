import { ApiError, newKey, PreconditionFailed, type TaskRef } from "@taskwell/client";

import { all, clientOf, failure, recorded, run } from "./program.js";

const seconds = async (work: () => Promise<unknown>) => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

await run({
  async everything(args) {
    const client = clientOf(args);
    const milk = await client.create({ title: "Buy milk" });
    const read = await client.get(milk.id);
    const replaced = await client.replace(read, { ...read, description: "Oat" });
    const done = await client.patch(replaced, { complete: true });
    const deletion = await client.delete(done);
    const trash = await all(client.trash());
    const restored = await client.restore(milk);
    const { results, revision } = await client.batch([
      { op: "create", task: { title: "Buy bread" } },
      { op: "patch", id: milk.id, if_match: restored.etag, task: { title: "Buy tea" } },
    ]);
    const [listed, open, page] = [client.tasks(), client.tasks({ complete: false }), client.tasks({ limit: 1 })];
    const first = await page.page();
    const seen = {
      user: (await client.user()) === args.user,
      read: [read.title, read.etag === milk.etag],
      done: [done.title, done.description, done.complete],
      revisions: [milk, replaced, done, deletion, restored, { revision }].map(({ revision }) => revision),
      trash: trash.map(({ title }) => title),
      results: results.map(({ status, task }) => [status, task?.title]),
      listed: (await all(listed)).map(({ title }) => title),
      open: (await all(open)).map(({ title }) => title),
      page: [first.tasks.length, first.count],
      pages: (await all(page.pages())).map(({ tasks }) => tasks[0]?.title),
      next: first.next && (await client.tasks(first.next).page()).tasks[0]?.title,
      exported: (await (await client.export()).text()).trim().split("\n").length,
      csv: (await (await client.export({ format: "csv" })).text()).split("\r\n")[0],
    };
    const refused = await failure(() => client.erase("somebody else"));
    await client.erase(args.user);
    return { ...seen, refused, erased: (await all(client.tasks())).length };
  },

  async create(args) {
    const { title, revision } = await clientOf(args).create({ title: "Buy milk" });
    return { title, revision };
  },

  /** The page was closed before the response arrived. It had stored the key with the task. */
  async createAfterReload(args) {
    const key = newKey();
    const before = await clientOf(args).create({ title: "Buy milk" }, { key });
    const after = await clientOf(args).create({ title: "Buy milk" }, { key });
    return before.id === after.id;
  },

  async change(args) {
    const { seen, fetch } = recorded();
    const client = clientOf(args, fetch);
    const [task] = (await client.tasks().page()).tasks;
    const { etag, title, revision } = await client.patch(await client.get(task?.id ?? 0), { title: " Buy bread " });
    const now = await client.get(task?.id ?? 0);
    return { title, revision, isCurrent: now.etag === etag, seen };
  },

  async replace(args) {
    const client = clientOf(args);
    const [task] = (await client.tasks().page()).tasks;
    const { title, revision } = await client.replace(task as TaskRef, { title: "Buy bread", complete: true });
    return { title, revision };
  },

  async remove(args) {
    const client = clientOf(args);
    const [task] = (await client.tasks().page()).tasks;
    return client.delete(task as TaskRef);
  },

  async batch(args) {
    const client = clientOf(args);
    const [one, two] = (await all(client.changes()))[0]?.tasks ?? [];
    if (!one || !two) return undefined;
    const { results, revision } = await client.batch([
      { op: "create", task: { title: "new" } },
      { op: "patch", id: one.id, if_match: one.etag, task: { title: "patched" } },
      { op: "replace", id: two.id, if_match: two.etag, task: { title: "replaced", complete: true } },
    ]);
    return { titles: results.map(({ task }) => task?.title), revision };
  },

  async changeById(args) {
    const client = clientOf(args);
    const [task] = (await client.tasks().page()).tasks;
    return failure(() => client.patch(task?.id ?? 0, { title: "Buy bread" }));
  },

  async missing(args) {
    const client = clientOf(args);
    return [await failure(() => client.delete(12345)), await failure(() => client.get(12345))];
  },

  async merge(args) {
    const client = clientOf(args);
    const seen = await client.create({ title: "Buy milk" });
    const listed = (await client.tasks().page()).tasks[0] as TaskRef;
    await clientOf(args).patch(seen, { description: "Oat" });
    const outcomes: unknown[] = [await failure(() => client.patch(listed, { complete: true }))];
    for (const ref of [seen, listed]) {
      try {
        await client.patch(ref, { complete: true });
      } catch (error) {
        if (error instanceof PreconditionFailed) outcomes.push(error.current.description);
        if (error instanceof PreconditionFailed && ref === seen) await client.patch(error.current, { complete: true });
      }
    }
    const { description, complete } = await client.get(seen.id);
    return { outcomes, now: [description, complete] };
  },

  async unchanged(args) {
    const { seen, fetch } = recorded();
    const client = clientOf(args, fetch);
    const task = await client.create({ title: "Buy milk" });
    const titles = async () => (await all(client.tasks())).map(({ title }) => title);
    const lists = [await titles(), await titles()];
    await client.get(task.id);
    (await client.get(task.id)).title = "spoiled by the page";
    const kept = (await client.get(task.id)).title;
    await client.patch(task, { title: "Buy bread" });
    return { lists, kept, after: await titles(), seen };
  },

  async many(args) {
    const { seen, fetch } = recorded();
    const client = clientOf(args, fetch);
    const tasks = await Promise.all([1, 2, 3, 4].map((number) => client.create({ title: `${number}` })));
    return { titles: tasks.map(({ title }) => title), refusals: seen.filter((each) => each.endsWith("429")).length };
  },

  /** A proxy says a date. */
  async unavailable(args) {
    const date = new Date(Date.now() + 2500).toUTCString();
    const responses = [new Response("<h1>Sorry</h1>", { status: 503, headers: { "Retry-After": date } })];
    const client = clientOf(args, async (input, init) => responses.shift() ?? fetch(input, init));
    return { waited: await seconds(() => client.create({ title: "Buy milk" })) };
  },

  async limited(args) {
    const client = clientOf(args);
    await client.tasks().page();
    const errors: string[] = [];
    const waited = await seconds(async () => errors.push(await failure(() => client.tasks().page())));
    return { waited, error: errors[0] };
  },

  async errors(args) {
    const client = clientOf(args);
    const elsewhere = clientOf({ ...args, url: `${args.url}/elsewhere` });
    const invalid = await client.create({ title: " " }).catch((error: unknown) => error);
    if (!(invalid instanceof ApiError)) return invalid;
    const { message, violations, requestId } = invalid;
    return {
      invalid: [message, violations.map(({ loc }) => loc), typeof requestId],
      elsewhere: await failure(() => elsewhere.get(1)),
      unreachable: await failure(() => clientOf({ ...args, url: "http://127.0.0.1:9" }).get(1)),
    };
  },

  async abort(args) {
    const client = clientOf(args);
    await client.user();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 100);
    const { signal } = controller;
    const errors: string[] = [];
    const waited = await seconds(async () => {
      errors.push(await failure(() => client.get(1, { signal })));
      errors.push(await failure(() => client.create({ title: "no" }, { signal })));
    });
    return { errors, waited };
  },

  /** React Native has none of these. */
  async reactNative(args) {
    Reflect.deleteProperty(Response.prototype, "body");
    Reflect.deleteProperty(Crypto.prototype, "randomUUID");
    for (const name of ["any", "timeout"]) Reflect.deleteProperty(AbortSignal, name);
    for (const name of ["TextDecoder", "URLSearchParams", "structuredClone"]) Reflect.deleteProperty(globalThis, name);
    const client = clientOf(args);
    const { title } = await client.create({ title: "Buy milk" });
    const found = (await all(client.tasks({ q: "milk", limit: 1 }))).length;
    return [title, found, await failure(() => all(client.events()))];
  },
});
