// The database of Better Auth: a SQLite file, or PostgreSQL if DATABASE_URL is set.

import type { BetterAuthOptions } from "better-auth";
import { SqliteDialect } from "kysely";
import Database from "libsql";
import pg from "pg";

export function database(): NonNullable<BetterAuthOptions["database"]> {
  const url = process.env.DATABASE_URL;
  if (url) return new pg.Pool({ connectionString: url });
  // It opens with the first query, so a build creates no file. The dialect is explicit because Better Auth mistakes a
  // plain libsql database for one of another kind.
  const open = async () => new Database(process.env.DATABASE ?? "auth.db");
  return { dialect: new SqliteDialect({ database: open }), type: "sqlite" };
}
