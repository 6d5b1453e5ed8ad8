// Retries: of which requests, and when.

import { sleep } from "./abort.js";
import { ApiError, NetworkError, TokenUnavailable } from "./errors.js";
import type { ErrorCode } from "./types.js";

const RETRIES = 3;
const FIRST_PAUSE_MILLISECONDS = 500;
const MAX_PAUSE_MILLISECONDS = 16_000;
/** A call does not wait for longer. Its caller may. */
const MAX_RETRY_AFTER_MILLISECONDS = 30_000;

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

type RetryOptions = {
  /** Whether the attempt may be carried out twice. */
  repeatable?: boolean | undefined;
  signal?: AbortSignal | undefined;
};

/** Calls `attempt` until it succeeds, or fails for good, or too often. */
export async function retried<T>(
  attempt: () => Promise<T>,
  { repeatable = true, signal }: RetryOptions,
): Promise<T> {
  let repeated = false;
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof ApiError) error.repeated = repeated;
      repeated ||= mayBeCarriedOut(error);
      const isLast = failures === RETRIES || (repeated && !repeatable);
      if (isLast || !isTransient(error) || retryAfterOf(error) > MAX_RETRY_AFTER_MILLISECONDS) throw error;
      await sleep(pause(failures, error), signal);
    }
  }
}

/** Tells whether the service may have carried out the request that ended in this error. */
function mayBeCarriedOut(error: unknown): boolean {
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
  return Math.max(retryAfterOf(error) + random / 2, random);
}

function retryAfterOf(error: unknown): number {
  return (error instanceof ApiError && error.retryAfterMilliseconds) || 0;
}

/** Returns a new Idempotency-Key. Store it with a task that is not sent yet, and it is created once. */
export function newKey(): string {
  // Pages that are served over http, and React Native, have no crypto.randomUUID.
  return globalThis.crypto?.randomUUID?.() ?? [0, 0, 0].map(() => Math.random().toString(36).slice(2)).join("");
}
