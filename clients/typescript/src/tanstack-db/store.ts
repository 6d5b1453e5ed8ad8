// The user's database in IndexedDB. Every function of the adapter that changes it does so in one transaction.

import type { Contents, Copy, Refusal, Status, Stored, Write } from "./model.js";

const STORES = ["tasks", "outbox", "refused", "facts"] as const;

/** The stores of an open transaction. `facts` has the copy and the status. */
export type Stores = Record<(typeof STORES)[number], IDBObjectStore>;

export type Store = {
  read<T>(work: (stores: Stores) => Promise<T>): Promise<T>;
  /** Carries out all of `work`, or nothing. What it has written survives a crash. */
  change<T>(work: (stores: Stores) => Promise<T>): Promise<T>;
};

export async function openStore(name: string): Promise<Store> {
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => {
    const database = opening.result;
    database.createObjectStore("tasks", { keyPath: "id" }).createIndex("key", "key");
    for (const store of ["outbox", "refused"]) database.createObjectStore(store, { keyPath: "n", autoIncrement: true });
    database.createObjectStore("facts");
  };
  const database = await got(opening);

  async function transact<T>(mode: IDBTransactionMode, work: (stores: Stores) => Promise<T>): Promise<T> {
    const transaction = database.transaction(STORES, mode, { durability: "strict" });
    const ended = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was aborted"));
    });
    ended.catch(() => {});
    const stores = STORES.map((name) => [name, transaction.objectStore(name)]);
    try {
      const result = await work(Object.fromEntries(stores) as Stores);
      await ended;
      return result;
    } catch (error) {
      if (!transaction.error) abort(transaction);
      throw error;
    }
  }

  return {
    read: (work) => transact("readonly", work),
    change: (work) => transact("readwrite", work),
  };
}

/** Aborts a transaction that may have ended. */
function abort(transaction: IDBTransaction): void {
  try {
    transaction.abort();
  } catch {
    // It has.
  }
}

export function got<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export function outboxOf({ outbox }: Stores): Promise<Write[]> {
  return got(outbox.getAll());
}

export async function copyOf({ facts }: Stores): Promise<Copy> {
  return (await got<Copy | undefined>(facts.get("copy"))) ?? { since: null, revision: 0 };
}

export async function statusOf({ facts }: Stores): Promise<Status> {
  return (await got<Status | undefined>(facts.get("status"))) ?? { online: true, error: null };
}

/** Reads everything. If the copy is still that of `known`, its tasks are not read again. */
export function contentsOf(store: Store, known: Contents | undefined): Promise<Contents> {
  return store.read(async (stores) => {
    const copy = await copyOf(stores);
    const isKnown = known && copy.since !== null && copy.since === known.copy.since;
    const tasks = isKnown ? known.tasks : await got<Stored[]>(stores.tasks.getAll());
    const refused = await got<Refusal[]>(stores.refused.getAll());
    return { tasks, outbox: await outboxOf(stores), refused, copy, status: await statusOf(stores) };
  });
}

/** Tells the tabs whether the device is online, and what failed last. Returns whether this is news. */
export function setStatus(store: Store, changed: Partial<Status>): Promise<boolean> {
  return store.change(async (stores) => {
    const before = await statusOf(stores);
    const after = { ...before, ...changed };
    if (after.online === before.online && after.error === before.error) return false;
    await got(stores.facts.put(after, "status"));
    return true;
  });
}

export function removeRefusal(store: Store, { n }: Refusal): Promise<void> {
  return store.change(({ refused }) => got(refused.delete(n)));
}

export function clearStore(store: Store): Promise<void> {
  return store.change(async (stores) => {
    for (const name of STORES) await got(stores[name].clear());
  });
}
