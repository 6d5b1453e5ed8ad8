// A client of the service that calls every operation, with the types of the OpenAPI document. Its arguments are the URL of
// the service, a user and a token.

import createClient from "openapi-fetch";
import type { paths } from "./taskwell";

declare const process: { argv: [string, string, string, string, string] };

const [, , baseUrl, user_id, token] = process.argv;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const tasks = "/api/{user_id}/tasks";
const task = "/api/{user_id}/tasks/{task_id}";
const changes = "/api/{user_id}/changes";
const path = { user_id };

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

check((await api.GET("/health")).data?.status === "ok", "health");
check((await api.GET("/health/ready")).data?.database === "ok", "ready");

const created = (await api.POST(tasks, { params: { path }, body: { title: "Buy milk", description: "Oat" } })).data;
check(created !== undefined && created.complete === false, "create");
const one = { path: { user_id, task_id: created.id } };

const changed = (await api.PATCH(task, { params: one, body: { complete: true } })).data;
check(changed !== undefined && changed.complete && changed.description === "Oat", "patch");

const replaced = (await api.PUT(task, { params: one, body: { ...changed, title: "Buy bread" } })).data;
check(replaced?.title === "Buy bread" && replaced.description === "Oat", "replace");

const page = (await api.GET(tasks, { params: { path, query: { complete: true, limit: 10 } } })).data;
check(page?.count === 1 && page.tasks[0]?.title === "Buy bread", "list");
check((await api.GET(task, { params: one })).data?.id === created.id, "get");

const refused = await api.POST(tasks, { params: { path }, body: { title: " " } });
check(refused.error?.errors?.[0]?.loc.join(".") === "body.title", "refuse");

const all = (await api.GET(changes, { params: { path, query: { limit: 10 } } })).data;
check(all?.tasks[0]?.title === "Buy bread" && !all.has_more, "changes");
const since = all.since;

check((await api.DELETE(task, { params: one })).response.status === 204, "delete");
const later = (await api.GET(changes, { params: { path, query: { since } } })).data;
check(later?.deleted[0]?.id === created.id && later.tasks.length === 0, "later changes");
check((await api.GET(task, { params: one })).error?.error_code === "NOT_FOUND", "not found");

const trash = (await api.GET("/api/{user_id}/trash", { params: { path, query: { limit: 10 } } })).data;
check(trash?.count === 1 && trash.tasks[0]?.etag.startsWith('"') === true, "trash");
const restored = (await api.POST("/api/{user_id}/trash/{task_id}/restore", { params: one })).data;
check(restored?.id === created.id && restored.title === "Buy bread", "restore");

const operations = [
  { op: "create" as const, task: { title: "Buy eggs" } },
  { op: "patch" as const, id: created.id, task: { complete: false }, if_match: "*" },
];
const batch = (await api.POST("/api/{user_id}/tasks/batch", { params: { path }, body: { operations } })).data;
check(batch?.results[0]?.status === 201 && batch.results[1]?.task?.complete === false, "batch");

const query = { confirm: user_id };
check((await api.DELETE("/api/{user_id}", { params: { path, query } })).response.status === 204, "erase");
