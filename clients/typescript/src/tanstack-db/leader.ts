// One tab of a browser talks to the service for all of them.

import { linked } from "../abort.js";

/**
 * Does the work while this tab leads, until the signal ends it.
 *
 * The tab that the user comes to takes the lead, because browsers slow hidden tabs down or freeze them. A tab that is
 * closed gives it up. For a moment, two tabs can believe that they lead, so the work must bear it.
 */
export async function whileLeader(
  name: string,
  work: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  // Node and React Native have no locks, and no tabs.
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (!locks) return work(signal);
  for (let steal = isVisible(); !signal.aborted; ) {
    const turn = linked(signal);
    let isLeader = false;
    const unlisten = onVisible(() => !isLeader && turn.abort(new Error("the user is here")));
    const lead = async () => {
      isLeader = true;
      await work(turn.signal);
    };
    try {
      await locks.request(name, steal ? { steal } : { signal: turn.signal }, lead);
    } catch (error) {
      // Another tab has taken the lead, or the user has come to this tab while it waited.
      if (!isLeader && !turn.signal.aborted) throw error;
    }
    unlisten();
    turn.abort(new Error("this tab does not lead"));
    turn.end();
    steal = !isLeader && isVisible();
  }
}

function isVisible(): boolean {
  return globalThis.document?.visibilityState === "visible";
}

function onVisible(listener: () => void): () => void {
  const check = () => isVisible() && listener();
  globalThis.document?.addEventListener("visibilitychange", check);
  return () => globalThis.document?.removeEventListener("visibilitychange", check);
}
