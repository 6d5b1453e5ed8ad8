// Pages of two origins call the API with cookies, as many front ends do: one origin is allowed, the other is not.

import { run } from "./chromium.mjs";

const HEADERS = {
  "Idempotency-Key": "k-1",
  "X-Request-ID": "from-a-page",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "a=b",
  baggage: "c=d",
  "sentry-trace": "771a43a4192642f0b136d5159a501700-1-1",
};

async function callFrom(context, origin, { url, token, headers }) {
  const page = await context.newPage();
  await page.goto(origin);
  return page.evaluate(
    async ({ url, token, headers }) => {
      const call = (url, method, body) =>
        fetch(url, {
          method,
          credentials: "include",
          headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...headers },
          body: body && JSON.stringify(body),
        });
      try {
        const created = await call(url, "POST", { title: "from a page" });
        const { id } = await created.json();
        const statuses = [created.status];
        for (const [method, body] of [["GET"], ["PUT", { title: "a", complete: true }], ["PATCH", { title: "b" }], ["DELETE"]])
          statuses.push((await call(`${url}/${id}`, method, body)).status);
        const missing = await call(`${url}/${id}`, "GET");
        return { statuses, readable: [...created.headers.keys()], error: (await missing.json()).error_code };
      } catch (error) {
        return { failure: error.message };
      }
    },
    { url, token, headers },
  );
}

// Uses the conditional and idempotent requests of the API, and returns what the page can read of each response.
async function useHeadersFrom(context, origin, { url, token }) {
  const page = await context.newPage();
  await page.goto(origin);
  return page.evaluate(
    async ({ url, token }) => {
      const call = async (url, method, headers = {}, body) => {
        const response = await fetch(url, {
          method,
          credentials: "include",
          // With its cache, the browser turns a 304 into the 200 that it has stored.
          cache: "no-store",
          headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...headers },
          body: body && JSON.stringify(body),
        });
        const text = await response.text();
        const read = (name) => response.headers.get(name);
        return { status: response.status, text, read, seen: { status: response.status, etag: read("ETag") } };
      };
      const create = () => call(url, "POST", { "Idempotency-Key": "from-a-page" }, { title: "a" });
      const [created, replayed] = [await create(), await create()];
      const one = new URL(created.read("Location"), url).href;
      const [etag, same] = [created.read("ETag"), { "If-None-Match": created.read("ETag") }];
      await call(url, "POST", {}, { title: "b" });
      const list = await call(`${url}?limit=1`, "GET");
      const next = new URL(/<([^>]*)>; rel="next"/.exec(list.read("Link"))[1], url).href;
      const page2 = await call(next, "GET");
      const unchanged = [await call(one, "GET", same), await call(`${url}?limit=1`, "GET", { "If-None-Match": list.read("ETag") })];
      const changed = await call(one, "PATCH", { "If-Match": etag }, { title: "c" });
      const stale = await call(one, "PATCH", { "If-Match": etag }, { title: "d" });
      const deleted = await call(one, "DELETE", { "If-Match": stale.read("ETag") });
      return {
        created: created.seen,
        replayed: { ...replayed.seen, replayed: replayed.read("Idempotency-Replayed"), same: replayed.text === created.text },
        page2: JSON.parse(page2.text).tasks.map((task) => task.title),
        unchanged: unchanged.map(({ status, text }) => ({ status, text })),
        changed: changed.seen,
        stale: { ...stale.seen, current: JSON.parse(stale.text).current.title },
        revisions: [created, replayed, changed, deleted].map(({ read }) => read("Taskwell-Revision")),
        deleted: deleted.status,
      };
    },
    { url, token },
  );
}

await run(async (context, { allowed, other, url, token }) => ({
  allowed: await callFrom(context, allowed, { url, token, headers: HEADERS }),
  other: await callFrom(context, other, { url, token, headers: HEADERS }),
  headers: await useHeadersFrom(context, allowed, { url, token }),
}));
