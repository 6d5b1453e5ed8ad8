// Better Auth: who is signed in, and tokens for Taskwell.

import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";

import { database } from "./database";

export const auth = betterAuth({
  database: database(),
  baseURL: process.env.BETTER_AUTH_URL,
  secret: process.env.BETTER_AUTH_SECRET,
  emailAndPassword: { enabled: true },
  plugins: [jwt()],
});
