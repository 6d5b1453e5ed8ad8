// Tells all tabs that what is stored has changed.

import { abortable } from "../abort.js";

export type Bell = {
  /** Tells this tab and the others. */
  ring(): void;
  listen(listener: () => void): () => void;
  /** How often it has rung. */
  count(): number;
  /** Waits until it has rung more often than `count`. */
  after(count: number, signal: AbortSignal): Promise<void>;
  close(): void;
};

export function bellOf(name: string): Bell {
  const listeners = new Set<() => void>();
  // React Native has none, and no tabs.
  const channel = globalThis.BroadcastChannel && new BroadcastChannel(name);
  let rung = 0;
  const heard = () => {
    rung += 1;
    for (const listener of [...listeners]) listener();
  };
  if (channel) channel.onmessage = heard;

  function listen(listener: () => void) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  return {
    ring() {
      heard();
      channel?.postMessage(null);
    },
    listen,
    count: () => rung,
    async after(count, signal) {
      if (rung !== count) return;
      let unlisten: (() => void) | undefined;
      const next = new Promise<void>((resolve) => (unlisten = listen(resolve)));
      await abortable(next, signal).finally(() => unlisten?.());
    },
    close: () => channel?.close(),
  };
}
