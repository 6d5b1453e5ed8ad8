// Configures Better Auth: e-mail and password sign-in, and tokens for the task API.

import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import { SqliteDialect } from "kysely";
import Database from "libsql";

// libsql ships its binaries for Linux, macOS and Windows as npm packages. better-sqlite3 downloads its binary from
// elsewhere or compiles it, and node:sqlite needs Node 22. The dialect is explicit because Better Auth mistakes a plain
// libsql database, which has a property `db`, for another kind of database.
const database = new Database(process.env.DATABASE ?? "auth.db");

export const auth = betterAuth({
  database: { dialect: new SqliteDialect({ database }), type: "sqlite" },
  baseURL: process.env.BETTER_AUTH_URL,
  secret: process.env.BETTER_AUTH_SECRET,
  emailAndPassword: { enabled: true },
  plugins: [jwt()],
});
