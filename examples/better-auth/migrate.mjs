// Creates Better Auth's tables, or adds those that are missing. Run it before the first start and after each update.

import { getMigrations } from "better-auth/db/migration";

import { auth } from "./auth.mjs";

const { toBeCreated, toBeAdded, runMigrations } = await getMigrations(auth.options);
await runMigrations();
for (const { table } of [...toBeCreated, ...toBeAdded]) console.log(`migrated ${table}`);
process.exit();
