// What may be sent again, and when.

import { ApiError, NetworkError, TokenUnavailable } from "./errors.js";
import type { ErrorCode } from "./types.js";

export const RETRIES = 3;
const FIRST_PAUSE_MILLISECONDS = 500;
const MAX_PAUSE_MILLISECONDS = 16_000;
const MAX_RETRY_AFTER_MILLISECONDS = 60_000;

const NOT_CARRIED_OUT: ReadonlySet<ErrorCode | undefined> = new Set<ErrorCode>([
  "AUTH_UNAVAILABLE",
  "OVERLOADED",
  "RATE_LIMITED",
  "REQUEST_TIMEOUT",
]);

/** Tells whether the same request may succeed later. */
export function isTransient(error: unknown): boolean {
  if (error instanceof ApiError) return error.status >= 500 || error.status === 408 || error.status === 429;
  return error instanceof NetworkError || error instanceof TokenUnavailable;
}

/** Tells whether to wait for the next attempt of a call. A call does not wait for minutes; its caller may. */
export function isWorthAWait(error: unknown): boolean {
  const retryAfter = error instanceof ApiError ? (error.retryAfterMilliseconds ?? 0) : 0;
  return isTransient(error) && retryAfter <= MAX_RETRY_AFTER_MILLISECONDS;
}

/** Tells whether the service may have carried out the request that ended in this error. */
export function mayBeCarriedOut(error: unknown): boolean {
  return !(error instanceof ApiError && NOT_CARRIED_OUT.has(error.code));
}

/**
 * Returns how long to wait after this many failures in a row, in milliseconds.
 *
 * Random, so that clients that failed together do not come back together.
 */
export function pause(failures: number, error?: unknown): number {
  const longest = Math.min(FIRST_PAUSE_MILLISECONDS * 2 ** failures, MAX_PAUSE_MILLISECONDS);
  const random = longest * (0.5 + Math.random() / 2);
  const retryAfter = error instanceof ApiError ? error.retryAfterMilliseconds : undefined;
  return retryAfter === undefined ? random : retryAfter + random / 2;
}

/** Returns a new Idempotency-Key. Store it with a task that is not sent yet, and it is created once. */
export function newKey(): string {
  // Pages that are served over http, and React Native, have no crypto.randomUUID.
  return globalThis.crypto?.randomUUID?.() ?? [0, 0, 0].map(() => Math.random().toString(36).slice(2)).join("");
}
