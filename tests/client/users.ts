import { createClient } from "@taskwell/client";

import { all, failure, report, run, told } from "./program.js";

const titles = async (client: ReturnType<typeof createClient>) => (await all(client.tasks())).map(({ title }) => title);

await run({
  async nextUser({ url, tokens: [alice = ""], other }) {
    let token: string | undefined = alice;
    const sent: string[] = [];
    const client = createClient({
      url,
      auth: async () => token,
      fetch(input, init) {
        sent.push(new Headers(init?.headers).get("Authorization") === `Bearer ${alice}` ? "alice" : "bob");
        return fetch(input, init);
      },
    });
    await client.create({ title: "of alice" });
    const seen: unknown[] = [await titles(client)];
    token = undefined;
    client.forget();
    seen.push(await failure(() => titles(client)));
    token = other.token;
    await client.create({ title: "of bob" });
    seen.push(await titles(client), (await client.user()) === other.user);
    return { seen, sent };
  },

  /** What was written before the sign-out is sent after the next sign-in. */
  async forUser({ url, user, tokens: [alice = ""], other }) {
    let token = other.token;
    const client = createClient({ url, auth: async () => token });
    const task = { title: "of alice" };
    const calls = [
      () => client.create(task, { user }),
      () => client.batch([{ op: "create", task }], { user }),
      () => all(client.changes({ user })),
      () => all(client.watch({ user })),
      () => client.export({ user }),
    ];
    const refused = await Promise.all(calls.map((call) => failure(call)));
    const ofBob = await titles(client);
    token = alice;
    client.forget();
    await client.create(task, { user });
    return { refused, ofBob, ofAlice: await titles(client) };
  },

  /** Another user signs in, and nobody tells the client. */
  async anotherTab({ url, tokens: [alice = ""], other }) {
    let token = alice;
    const client = createClient({ url, auth: async () => token });
    await client.user();
    token = other.token;
    // Longer than the token of Alice is used.
    await new Promise((resolve) => setTimeout(resolve, 3100));
    const refused = await failure(() => client.create({ title: "typed by alice" }));
    client.forget();
    return [refused, await titles(client)];
  },

  async lateResponse({ url, tokens: [alice = ""], other }) {
    let token: string | undefined = alice;
    const client = createClient({ url, auth: async () => token });
    await Promise.all([client.create({ title: "of alice" }), client.create({ title: "of alice" })]);
    const streams = [client.events(), client.watch()].map((each) => failure(() => all<unknown>(each)));
    const walk = client.tasks({ limit: 1 })[Symbol.asyncIterator]();
    await walk.next();
    const seen: string[] = [];
    const late = failure(() => titles(client));
    await new Promise((resolve) => setTimeout(resolve, 50));
    token = other.token;
    client.forget();
    seen.push(await failure(() => walk.next()), ...(await Promise.all(streams)));
    return { late: await late, seen, now: await titles(client) };
  },

  async renewal({ url, tokens: [short = "", refused = "", good = ""] }) {
    const tokens = [short, refused, good];
    let fetched = 0;
    const client = createClient({ url, auth: async () => tokens[fetched++] });
    const count = async (calls: number) => {
      await Promise.all(Array.from({ length: calls }, () => titles(client)));
      return fetched;
    };
    const seen = [await count(5), await count(1)];
    await new Promise((resolve) => setTimeout(resolve, 3100));
    return [...seen, await count(1), await count(5)];
  },

  async refused({ url, tokens: [token = ""] }) {
    let fetched = 0;
    const client = createClient({ url, auth: async () => (fetched++, token) });
    return [await failure(() => titles(client)), fetched];
  },

  async authServerFails({ url, tokens: [token = ""] }) {
    const answers: (() => string)[] = [() => { throw new Error("429"); }, () => token];
    const client = createClient({ url, auth: async () => answers.shift()?.() });
    const never = createClient({ url, auth: async () => "not a JWT" });
    return [await titles(client), await failure(() => titles(never))];
  },

  async unicode({ url, user, tokens: [token = ""] }) {
    const client = createClient({ url, auth: async () => token });
    return [(await client.user()) === user, (await client.create({ title: "mine" })).user_id === user];
  },

  async rotation({ url, tokens: [before = "", after = ""] }) {
    let token = before;
    const client = createClient({ url, auth: async () => token });
    report((await client.create({ title: "before" })).title);
    await told();
    token = after;
    return (await client.create({ title: "after" })).title;
  },
});
