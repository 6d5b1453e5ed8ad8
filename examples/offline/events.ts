// The stream of events.

import { pause, request, sleep, Unavailable } from "./requests";
import type { App, State } from "./types";

const SILENCE_MILLISECONDS = 30_000;

type Breaks = Set<() => void>;

/** Calls `sync` when the service tells of a change. Connects again whenever the stream ends. */
export async function listen(app: App, state: State, breaks: Breaks, sync: () => Promise<void>): Promise<void> {
  for (let failures = 0; !app.signal.aborted; ) {
    let milliseconds = pause(failures++);
    try {
      // First, because the stream refuses a token that is no longer valid.
      await sync();
      for await (const [name, value] of events(app, state.since, breaks)) {
        failures = 0;
        if (name === "event" && ["task", "deleted"].includes(value)) void sync();
        if (name === "retry") milliseconds = Number(value);
      }
    } catch (error) {
      milliseconds = pause(failures, error);
    }
    await sleep(milliseconds, breaks);
  }
}

/** Yields the fields of the events after a token, such as `["event", "task"]`, until the stream ends. */
async function* events(app: App, lastId: string | null, breaks: Breaks): AsyncGenerator<[name: string, value: string]> {
  const stream = new AbortController();
  const end = () => stream.abort();
  let alarm = setTimeout(end, SILENCE_MILLISECONDS);
  try {
    const headers = lastId ? { "Last-Event-ID": lastId } : {};
    const response = await request(app, "/events", { headers, signal: stream.signal });
    if (!response.ok || !response.body) throw new Unavailable(response);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let rest = ""; ; ) {
      const { done, value: chunk } = await reader.read();
      if (done) return;
      clearTimeout(alarm);
      alarm = setTimeout(end, SILENCE_MILLISECONDS);
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [, name = "", value = ""] = /^(\w+): ?(.*)/.exec(line) ?? [];
        // A new connection wakes an idle stream. So `refresh` ends it.
        if (name === "event") breaks[value === "idle" ? "add" : "delete"](end);
        if (name) yield [name, value];
      }
    }
  } finally {
    clearTimeout(alarm);
    breaks.delete(end);
    end();
  }
}
