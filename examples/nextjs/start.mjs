// Starts Taskwell, and this app with Better Auth: `make example`. Ctrl-C ends both.
//
// With the argument "dev", the app is compiled again whenever you save a file.

import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const TASKWELL = process.env.TASKWELL ?? "taskwell";
const mode = process.argv[2] === "dev" ? "dev" : "start";

process.chdir(import.meta.dirname);
// With another secret, Better Auth could not read its signing keys. So it is kept.
if (!process.env.BETTER_AUTH_SECRET && !existsSync(".env.local")) {
  writeFileSync(".env.local", `BETTER_AUTH_SECRET=${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
}

const app = `http://localhost:${await freePort(3000)}`;
const taskwell = `http://localhost:${await freePort(8000)}`;
const folder = resolve(process.env.DATA ?? ".");
const shared = { ...process.env, BETTER_AUTH_URL: app, NEXT_TELEMETRY_DISABLED: "1" };
const forApp = { ...shared, DATABASE: `${folder}/auth.db`, TASKWELL_URL: taskwell };
const forTaskwell = {
  ...shared,
  DATABASE_URL: `sqlite:///${folder}/taskwell.db`,
  TASKWELL_CORS_ORIGINS: app,
  TASKWELL_LOG_LEVEL: "warning",
  // Taskwell verifies tokens with the app's public keys. The secret is only the app's.
  BETTER_AUTH_SECRET: undefined,
};

const NEXT = ["node", resolve("node_modules/next/dist/bin/next")];
finish([TASKWELL, "migrate"], forTaskwell);
if (mode === "start") finish([...NEXT, "build"], forApp);
const children = [];
let isEnding = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, end);
await start([...NEXT, mode, "--hostname", "localhost", "--port", portOf(app)], forApp, `${app}/api/auth/jwks`);
await start([TASKWELL, "serve", "--port", portOf(taskwell)], forTaskwell, `${taskwell}/health/ready`);
if (!isEnding) console.log(`\nOpen ${app} in a browser. Taskwell serves at ${taskwell}.`);

function end() {
  isEnding = true;
  for (const child of children) child.kill("SIGTERM");
}

function finish([command, ...args], env) {
  const { status, error } = spawnSync(command, args, { env, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** Starts a program, and waits until it answers. If it ends, all end. */
async function start([command, ...args], env, url) {
  if (isEnding) return;
  const child = spawn(command, args, { env, stdio: "inherit" });
  children.push(child);
  child.on("exit", end);
  while (!isEnding && !(await fetch(url).catch(() => null))?.ok) await sleep(100);
}

function portOf(url) {
  return new URL(url).port;
}

/** Returns the port, or another one if it is taken. */
function freePort(wanted) {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(freePort(0)));
    server.listen(wanted, () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}
