// AbortSignal.any and AbortSignal.timeout do the same, but React Native has neither.

/** Waits, unless the signal ends the wait. */
export async function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  let clock: ReturnType<typeof setTimeout> | undefined;
  const end = new Promise<void>((resolve) => (clock = setTimeout(resolve, milliseconds)));
  try {
    await abortable(end, signal);
  } finally {
    clearTimeout(clock);
  }
}

/** Waits for a promise that cannot be aborted itself. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  const link = linked(signal);
  try {
    return await Promise.race([promise, link.aborted]);
  } finally {
    link.end();
  }
}

export type Link = {
  signal: AbortSignal;
  /** Rejects when the signal is aborted. */
  aborted: Promise<never>;
  abort(reason: unknown): void;
  /** Aborts after a time, unless this is called again before. */
  abortAfter(milliseconds: number, reason: () => unknown): void;
  /** Stops the clock. The caller's signal still aborts. */
  stopClock(): void;
  /** Has to be called in the end, because the caller's signal can live for much longer. */
  end(): void;
};

/** Returns a signal that is aborted with the caller's, by `abort`, or after a time. */
export function linked(outer: AbortSignal | undefined): Link {
  const controller = new AbortController();
  let clock: ReturnType<typeof setTimeout> | undefined;
  let reject: (reason: unknown) => void;
  const aborted = new Promise<never>((_, no) => (reject = no));
  aborted.catch(() => {});
  const abort = (reason: unknown) => {
    controller.abort(reason);
    reject(reason);
  };
  const follow = () => abort(outer?.reason ?? new Error("aborted"));
  const stopClock = () => clearTimeout(clock);
  if (outer?.aborted) follow();
  else outer?.addEventListener("abort", follow);
  return {
    signal: controller.signal,
    aborted,
    abort,
    abortAfter(milliseconds, reason) {
      stopClock();
      clock = setTimeout(() => abort(reason()), milliseconds);
    },
    stopClock,
    end() {
      stopClock();
      outer?.removeEventListener("abort", follow);
    },
  };
}
