import { listen } from "./events";
import { finish, newTask, newWrite, nextBatch, operation, refuse, restored, view } from "./outbox";
import { pause, request, sleep, Unavailable } from "./requests";
import type { App, Page, Problem, Results, Shown, Values, Write } from "./types";

/** Opens the tasks that this device has stored. Several tabs must not do this at the same time. */
export async function openTasks(app: App) {
  const state = restored(await app.load());
  let running: Promise<void> | undefined;
  let isDue = false;
  const breaks = new Set<() => void>();

  async function write(op: Write["op"], seen: Shown, task: Partial<Values>) {
    state.outbox.push(newWrite(op, seen, task));
    await app.save(state);
    void sync();
  }

  async function push() {
    // `singles` is above 0 while the operations of a refused batch are sent one by one.
    for (let singles = 0; ; singles--) {
      const batch = nextBatch(state, singles > 0 ? 1 : 100);
      const [first] = batch;
      if (!first) return;
      const operations = batch.map((write) => operation(state, write));
      const response = await request(app, "/tasks/batch", { body: { operations } });
      const body: Results & Problem = await response.json();
      if (response.ok) {
        const revision = Number(response.headers.get("Taskwell-Revision"));
        batch.forEach((write, index) => finish(state, write, body.results[index]?.task, revision));
      } else if (batch.length > 1) singles = batch.length + 1;
      else if (body.errors || response.status === 413) refuse(app, state, first, body);
      else throw new Unavailable(response);
      await app.save(state);
    }
  }

  async function pull() {
    for (let hasMore = true; hasMore; ) {
      const query = state.since ? `?since=${state.since}` : "";
      const response = await request(app, `/changes${query}`);
      if (response.status === 410 && state.since) {
        // The account was erased, or a backup restored. Writes without a result stay in the outbox.
        state.tasks.clear();
        state.since = null;
        state.outbox = state.outbox.filter(({ revision }) => revision === undefined);
        continue;
      }
      if (!response.ok) throw new Unavailable(response);
      const page: Page = await response.json();
      for (const task of page.tasks) state.tasks.set(task.id, task);
      for (const { id } of page.deleted) state.tasks.delete(id);
      state.since = page.since;
      // Until now, the user saw these writes because they were in the outbox.
      state.outbox = state.outbox.filter(({ revision = Infinity }) => revision > page.revision);
      await app.save(state);
      hasMore = page.has_more;
    }
  }

  async function run() {
    for (let failures = 0; isDue && !app.signal.aborted; ) {
      isDue = false;
      try {
        await push();
        await pull();
        failures = 0;
      } catch (error) {
        // The next attempt sends the same operations, with the same keys.
        isDue = true;
        await sleep(pause(failures++, error), breaks);
      }
    }
    running = undefined;
  }

  function sync(): Promise<void> {
    isDue = true;
    return (running ??= run());
  }

  return {
    view: () => view(state),
    create: (task: Values) => write("create", newTask(task), task),
    change: (seen: Shown, task: Partial<Values>) => write("patch", seen, task),
    remove: (seen: Shown) => write("delete", seen, {}),
    refresh: () => (breaks.forEach((end) => end()), sync()),
    listen: () => listen(app, state, breaks, sync),
  };
}
