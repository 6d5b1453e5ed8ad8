// A front end's own table.
import { pgTable, text } from "drizzle-orm/pg-core";

export const profile = pgTable("profile", { id: text("id").primaryKey(), name: text("name") });
