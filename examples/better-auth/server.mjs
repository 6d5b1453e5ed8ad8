// Creates or migrates the database, then serves Better Auth over HTTP.

import { createServer } from "node:http";

import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";

import { auth } from "./auth.mjs";

const { runMigrations } = await getMigrations(auth.options);
await runMigrations();

const server = createServer(toNodeHandler(auth));
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`Better Auth listens on http://127.0.0.1:${server.address().port}`);
});
