// The route handler for Next.js. Copy it to app/api/auth/[...all]/route.js.

import { toNextJsHandler } from "better-auth/next-js";

import { auth } from "./auth.mjs";

export const { GET, POST } = toNextJsHandler(auth);
