import { createClient, type Changes } from "@taskwell/client";

import { all, clientOf, failure, report, run, told } from "./program.js";

/** A copy of the user's tasks: titles by id. */
function copyOf() {
  const titles = new Map<number, string>();
  return {
    since: undefined as string | undefined,
    resets: 0,
    revision: 0,
    apply({ reset, tasks, deleted, since, revision }: Changes) {
      if (reset) titles.clear();
      this.resets += Number(reset);
      for (const { id, title } of tasks) titles.set(id, title);
      for (const { id } of deleted) titles.delete(id);
      this.since = since;
      this.revision = revision;
    },
    titles: () => [...titles.values()].sort(),
  };
}

await run({
  async changes(args) {
    const client = clientOf(args);
    const copy = copyOf();
    const update = async () => {
      for await (const changes of client.changes({ since: copy.since })) copy.apply(changes);
      return copy.titles().length;
    };
    const operation = { op: "create", task: { title: "one of many" } } as const;
    const operations = Array.from({ length: 100 }, () => operation);
    for (let batches = 0; batches < 11; batches++) await client.batch(operations);
    const all = await update();
    const { revision } = await client.create({ title: "one more" });
    const more = await update();
    const contained = copy.revision >= revision;
    await client.erase(args.user);
    await client.create({ title: "after" });
    return { all, more, contained, after: [await update(), copy.resets] };
  },

  async events(args) {
    const tokens = [...args.tokens];
    const client = clientOf(args);
    const fresh = createClient({ url: args.url, auth: async () => tokens.shift() });
    let since: string | undefined;
    const controller = new AbortController();
    const { signal } = controller;
    const ended = failure(async () => {
      for await (const event of fresh.events({ since, signal })) {
        if ("since" in event) since = event.since;
        if (event.type === "task") report(event.task.title);
        else report(event.type === "deleted" ? `deleted ${event.deleted.id}` : event.type);
      }
    });
    await told();
    controller.abort();
    report(await ended);
    // The same checkpoints as those of the changes.
    return (await all(client.changes({ since }))).map(({ reset, tasks }) => [reset, tasks.length]);
  },

  /** The test lets the user come back to the window. */
  async watch(args) {
    const window = new EventTarget();
    globalThis.addEventListener = window.addEventListener.bind(window);
    globalThis.removeEventListener = window.removeEventListener.bind(window);
    void told().then(() => window.dispatchEvent(new Event("focus")));
    const client = clientOf(args);
    const copy = copyOf();
    for await (const changes of client.watch()) {
      copy.apply(changes);
      report([copy.titles(), copy.resets]);
    }
    return undefined;
  },

  async watchMany(args) {
    let requests = 0;
    const client = clientOf(args, (input, init) => {
      requests += Number(String(input).includes("/changes"));
      return fetch(input, init);
    });
    const copy = copyOf();
    const controller = new AbortController();
    const { signal } = controller;
    const ended = failure(async () => {
      for await (const changes of client.watch({ signal })) copy.apply(changes);
    });
    const write = () => Promise.all(Array.from({ length: 30 }, () => clientOf(args).create({ title: "one of many" })));
    await write();
    await write();
    while (copy.titles().length < 60) await new Promise((resolve) => setTimeout(resolve, 50));
    // The events of tasks that are in the copy already arrive, too.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    controller.abort();
    return { ended: await ended, isCheap: requests < 20 || requests };
  },

  async badCheckpoint(args) {
    const client = clientOf(args);
    const since = "x";
    const walks = [client.events({ since }), client.changes({ since }), client.watch({ since })];
    return Promise.all(walks.map((walk) => failure(() => all<unknown>(walk))));
  },
});
