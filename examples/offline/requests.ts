// Requests to the service.

import type { App } from "./types";

const REQUEST_MILLISECONDS = 30_000;
const MAX_PAUSE_MILLISECONDS = 30_000;

/** The request may succeed later. */
export class Unavailable extends Error {
  readonly retryAfter: number;

  constructor(response: Response) {
    super(`${response.url}: ${response.status}`);
    this.retryAfter = 1000 * (Number(response.headers.get("Retry-After")) || 0);
  }
}

type Options = { body?: unknown; headers?: Record<string, string>; signal?: AbortSignal };

/** Sends a request, and again with another token if the first is refused. Throws what may succeed later. */
export async function request(app: App, path: string, options: Options = {}, fresh = false): Promise<Response> {
  const { body, headers, signal = AbortSignal.timeout(REQUEST_MILLISECONDS) } = options;
  const type = { "Content-Type": "application/json" };
  const response = await fetch(app.url + path, {
    ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
    headers: { Authorization: `Bearer ${await app.token(fresh)}`, ...(body ? type : {}), ...headers },
    signal: AbortSignal.any([app.signal, signal]),
  });
  if (response.status === 401 && !fresh) return request(app, path, options, true);
  if (response.status >= 500 || [401, 403, 408, 429].includes(response.status)) throw new Unavailable(response);
  return response;
}

/** Waits this long, unless one of `breaks` is called. */
export async function sleep(milliseconds: number, breaks: Set<() => void>): Promise<void> {
  let end = () => {};
  await new Promise<void>((resolve) => {
    breaks.add((end = resolve));
    setTimeout(resolve, milliseconds);
  });
  breaks.delete(end);
}

/** Returns how long to wait after this many failures in a row, in milliseconds. */
export function pause(failures: number, error?: unknown): number {
  const random = Math.random() * Math.min(MAX_PAUSE_MILLISECONDS, 1000 * 2 ** failures);
  return error instanceof Unavailable ? error.retryAfter + random : random;
}
