// Who the users are, and the tokens that the task API believes.

import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import { SqliteDialect } from "kysely";
import Database from "libsql";

// libsql, because its binaries for Linux, macOS and Windows are packages of the registry like any other:
// better-sqlite3 fetches its own from elsewhere or compiles them, and node:sqlite begins with Node 22. It goes in
// as a dialect, since Better Auth takes a bare libsql database, which has a property `db`, for something else.
const database = new Database(process.env.DATABASE ?? "auth.db");

export const auth = betterAuth({
  database: { dialect: new SqliteDialect({ database }), type: "sqlite" },
  baseURL: process.env.BETTER_AUTH_URL,
  secret: process.env.BETTER_AUTH_SECRET,
  emailAndPassword: { enabled: true },
  plugins: [jwt()],
});
