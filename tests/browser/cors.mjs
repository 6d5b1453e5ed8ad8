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

await run(async (context, { allowed, other, url, token }) => ({
  allowed: await callFrom(context, allowed, { url, token, headers: HEADERS }),
  other: await callFrom(context, other, { url, token, headers: HEADERS }),
}));
