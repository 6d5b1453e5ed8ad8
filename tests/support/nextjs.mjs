// Calls the route handler and the server-side client of examples/better-auth as Next.js does.

import { createServer } from "node:http";

import { fromNodeHeaders, toNodeHandler } from "better-auth/node";

import * as route from "./next-route.mjs";
import { tasksOnServer } from "./tasks-on-server.mjs";

const handle = toNodeHandler((request) => route[request.method](request));

async function renderTasks(request, response) {
  const headers = fromNodeHeaders(request.headers);
  const created = await tasksOnServer(headers, "", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ title: "from the server" }),
  });
  const list = await tasksOnServer(headers);
  response.end(JSON.stringify({ created: created?.status ?? null, list: (await list?.json()) ?? null }));
}

const server = createServer((request, response) =>
  request.url.startsWith("/api/auth/") ? handle(request, response) : renderTasks(request, response),
);
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("listens on", server.address().port));
