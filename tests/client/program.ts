// Runs one scenario with the installed client. The test gives its name and its arguments in JSON, and reads a line of
// JSON for each result. A line on the standard input lets a scenario go on.

import { ApiError, createClient, TaskwellError, type TaskwellClient } from "@taskwell/client";

declare const process: { argv: string[]; stdin: AsyncIterable<Uint8Array>; exit(code: number): never };

/** `url` is that of the service, and `tokens` are tokens of the user. */
export type Arguments = { url: string; user: string; tokens: string[]; other: { user: string; token: string } };
export type Scenario = (args: Arguments) => Promise<unknown>;

export function report(value: unknown): void {
  console.log(JSON.stringify(value));
}

const input = process.stdin[Symbol.asyncIterator]();

/** Waits until the test lets the scenario go on. */
export async function told(): Promise<void> {
  await input.next();
}

export async function run(scenarios: Record<string, Scenario>): Promise<never> {
  const [, , name = "", json = ""] = process.argv;
  report(await scenarios[name]?.(JSON.parse(json)));
  process.exit(0);
}

export function clientOf({ url, tokens: [token = ""] }: Arguments, fetch?: typeof globalThis.fetch): TaskwellClient {
  return createClient({ url, auth: async () => token, ...(fetch && { fetch }) });
}

/** Returns the name and the code of the error of a call. */
export async function failure(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
  } catch (error) {
    const { name } = error as Error;
    if (error instanceof ApiError) return `${name} ${error.status} ${error.code}`;
    return error instanceof TaskwellError || name === "AbortError" ? name : String(error);
  }
  return "no error";
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Returns a `fetch`, and the requests and the statuses of their responses that it has seen. */
export function recorded(): { fetch: typeof globalThis.fetch; seen: string[] } {
  const seen: string[] = [];
  return {
    seen,
    async fetch(input, init) {
      const response = await fetch(input, init);
      seen.push(`${init?.method} ${response.status}`);
      return response;
    },
  };
}
