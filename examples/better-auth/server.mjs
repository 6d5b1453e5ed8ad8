// Serves Better Auth over HTTP, also to pages of the trusted origins.

import { createServer } from "node:http";

import { toNodeHandler } from "better-auth/node";

import { auth } from "./auth.mjs";

const handle = toNodeHandler(auth);
const trustedOrigins = process.env.BETTER_AUTH_TRUSTED_ORIGINS?.split(",") ?? [];

// Better Auth sends no CORS headers of its own.
function allowOtherOrigins(request, response) {
  response.setHeader("Vary", "Origin");
  if (!trustedOrigins.includes(request.headers.origin)) return;
  response.setHeader("Access-Control-Allow-Origin", request.headers.origin);
  response.setHeader("Access-Control-Allow-Credentials", "true");
  response.setHeader("Access-Control-Allow-Headers", "Content-Type");
  response.setHeader("Access-Control-Allow-Methods", "GET, POST");
}

const server = createServer((request, response) => {
  allowOtherOrigins(request, response);
  if (request.method === "OPTIONS") response.writeHead(204).end();
  else handle(request, response);
});
const host = process.env.HOST ?? "127.0.0.1";
server.listen(Number(process.env.PORT ?? 3000), host, () => {
  console.log(`Better Auth listens on http://${host}:${server.address().port}`);
});
