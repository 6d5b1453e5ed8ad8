// Fastify as its documentation shows it: schemas for bodies and responses, @fastify/jwt, and pg with named (prepared)
// statements. The statements are Taskwell's own. The log is off, which is the default.

import { randomUUID } from "node:crypto";

import jwt from "@fastify/jwt";
import Fastify from "fastify";
import pg from "pg";

const { DATABASE_URL, JWT_KEY, JWT_ALGORITHM, JWT_ISSUER, JWT_AUDIENCE, PORT, STATEMENTS, TOKEN_CACHE } = process.env;

// --- the database

// By default, pg turns 64-bit integers into strings, and timestamps into dates without microseconds. The time zone of the
// connection is UTC, so PostgreSQL's text is almost the text of the response, and faster to use than a Date.
const { INT8, TIMESTAMPTZ } = pg.types.builtins;
pg.types.setTypeParser(INT8, Number);
pg.types.setTypeParser(TIMESTAMPTZ, (text) => `${text.slice(0, 10)}T${text.slice(11, -3)}Z`);

const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 20 });
const statements = JSON.parse(STATEMENTS);

async function fetch(name, values) {
  const [text, names] = statements[name];
  return (await pool.query({ name, text, values: names.map((name) => values[name]) })).rows;
}

// --- schemas

const title = { type: "string", minLength: 1, maxLength: 200 };
const description = { type: ["string", "null"], maxLength: 1000 };
const complete = { type: "boolean" };
const body = (required) => ({ type: "object", required, properties: { title, description, complete } });

const text = { type: "string" };
const task = {
  type: "object",
  properties: {
    id: { type: "integer" },
    user_id: text,
    title: text,
    description: { type: ["string", "null"] },
    complete,
    created_at: text,
    updated_at: text,
  },
};
const list = { type: "object", properties: { tasks: { type: "array", items: task }, count: { type: "integer" } } };
const params = { type: "object", properties: { id: { type: "integer" } } };
const querystring = {
  type: "object",
  properties: {
    limit: { type: "integer", minimum: 1, maximum: 1000, default: 1000 },
    offset: { type: "integer", minimum: 0, default: 0 },
  },
};

// --- the endpoints

const app = Fastify();

app.register(jwt, {
  secret: JWT_ALGORITHM === "HS256" ? JWT_KEY : { public: JWT_KEY },
  verify: { algorithms: [JWT_ALGORITHM], allowedIss: JWT_ISSUER, allowedAud: JWT_AUDIENCE, cache: Boolean(TOKEN_CACHE) },
});

async function authenticate(request, reply) {
  await request.jwtVerify();
  if (request.user.sub !== request.params.user) return reply.code(403).send({ detail: "refused" });
}

function theOne(rows, reply) {
  return rows[0]?.id != null ? rows[0] : reply.code(404).send({ detail: "refused" });
}

app.get("/health", { schema: { response: { 200: { type: "object", properties: { status: text } } } } }, async () => ({
  status: "ok",
}));

app.register(async (api) => {
  api.addHook("onRequest", authenticate);

  api.get("/api/:user/tasks", { schema: { querystring, response: { 200: list } } }, async (request) => {
    const rows = await fetch("list_tasks", { owner: request.params.user, ...request.query });
    return { tasks: rows.filter((row) => row.id !== null), count: rows[0].count };
  });

  api.post("/api/:user/tasks", { schema: { body: body(["title"]), response: { 201: task } } }, async (request, reply) => {
    const { title, description = null, complete = false } = request.body;
    const values = { owner: request.params.user, title: title.trim(), description, complete, creation_key: randomUUID() };
    reply.code(201);
    return (await fetch("create_task", values))[0];
  });

  api.get("/api/:user/tasks/:id", { schema: { params, response: { 200: task } } }, async (request, reply) => {
    return theOne(await fetch("get_task", { owner: request.params.user, id: request.params.id }), reply);
  });

  api.patch("/api/:user/tasks/:id", { schema: { params, body: body([]), response: { 200: task } } }, async (request, reply) => {
    const { title = null, description = null, complete = null } = request.body;
    const values = { owner: request.params.user, id: request.params.id, title: title?.trim() ?? null, description, complete };
    return theOne(await fetch("change_task", { ...values, sets_description: "description" in request.body }), reply);
  });
});

await app.listen({ port: Number(PORT), host: "127.0.0.1" });
