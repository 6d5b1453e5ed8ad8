import { applyBatch } from "./batch.js";
import { changesSince, type Changes, type SyncOptions } from "./changes.js";
import { eventsSince, type TaskEvent } from "./events.js";
import { listing, nextCursor, type Listing } from "./listing.js";
import { transportOf, type Fetch } from "./request.js";
import { retried } from "./retry.js";
import { tokensOf, type Auth } from "./token.js";
import type { BatchResult, CallOptions, Operation, Task, TaskQuery, TrashedTask, TrashQuery } from "./types.js";
import { watchFrom } from "./watch.js";
import { writesOf, type Writes } from "./writes.js";

const EXPORT_TYPES = { ndjson: "application/x-ndjson", csv: "text/csv" };

export type ClientOptions = {
  /** The URL of the service, such as `https://tasks.example.com`. */
  url: string;
  /** Better Auth's client, or a function that returns a token. */
  auth: Auth;
  /** Instead of the global `fetch`: in React Native, the one of `expo/fetch`. */
  fetch?: Fetch;
};

/** The tasks of the user who is signed in. */
export type TaskwellClient = Writes & {
  /** The URL of the service. */
  url: string;
  /** Lists tasks, newest first unless `sort` says otherwise. */
  tasks(query?: TaskQuery, options?: CallOptions): Listing<Task, TaskQuery>;
  /** Lists deleted tasks, the newest deletion first. */
  trash(query?: TrashQuery, options?: CallOptions): Listing<TrashedTask, TrashQuery>;
  /** Applies 1 to 100 operations: all, or none. */
  batch(operations: readonly Operation[], options?: CallOptions): Promise<BatchResult>;
  /** Yields all changes since a checkpoint, and ends. If there is none, or if it is gone, it begins with a reset. */
  changes(options?: SyncOptions): AsyncIterable<Changes>;
  /** Yields events when they happen. It ends only by its signal, or by an error that stays. */
  events(options?: SyncOptions): AsyncIterable<TaskEvent>;
  /** Yields changes like `changes`, and goes on with those that happen, like `events`. */
  watch(options?: SyncOptions): AsyncIterable<Changes>;
  /** Returns a response with all tasks of the user, to read as a stream, a text or a blob. */
  export(options?: CallOptions & { format?: keyof typeof EXPORT_TYPES }): Promise<Response>;
  /** Erases everything of the user for good. `user` must be the user's id. */
  erase(user: string, options?: CallOptions): Promise<void>;
  /** Calls a function whenever a response arrives (true) or fails to arrive (false), until the result is called. */
  onConnection(listener: (isConnected: boolean) => void): () => void;
  /** Returns the id of the user who is signed in. */
  user(): Promise<string>;
  /** Forgets the user, the token and all responses. Call it when the user signs in or out. */
  forget(): void;
};

/** Creates a client for the user who is signed in. On a server, create one for each request. */
export function createClient({ url, auth, fetch }: ClientOptions): TaskwellClient {
  const tokens = tokensOf(auth);
  const transport = transportOf(url, tokens, fetch);
  const { bound, send } = transport;

  return {
    ...writesOf(transport),
    url,

    tasks: (query = {}, options) =>
      listing(query, () => {
        const call = bound(options);
        return async (query) => {
          const { body, headers } = await send("get", "/tasks", { ...call, query });
          const { offset, ...filter } = query;
          const cursor = nextCursor(headers);
          return { ...body, next: cursor ? { ...filter, cursor } : undefined };
        };
      }),

    trash: (query = {}, options) =>
      listing(query, () => {
        const call = bound(options);
        return async (query) => {
          const { body, headers } = await send("get", "/trash", { ...call, query });
          const cursor = nextCursor(headers);
          return { ...body, next: cursor ? { ...query, cursor } : undefined };
        };
      }),

    batch: (operations, options) => applyBatch(transport, operations, bound(options)),
    changes: (options = {}) => changesSince(transport, options.since, bound(options)),
    events: (options = {}) => eventsSince(transport, options.since, bound(options)),
    watch: (options = {}) => watchFrom(transport, options.since, bound(options)),

    export({ format = "ndjson", ...options } = {}) {
      const { caller, signal } = bound(options);
      const headers = { Accept: EXPORT_TYPES[format] };
      return retried(() => transport.start("/export", { headers, signal }, caller), { signal });
    },

    async erase(user, options) {
      await send("delete", "", { ...bound(options), query: { confirm: user } });
    },

    onConnection: transport.onConnection,
    user: async () => (await tokens.current()).user,
    forget: tokens.forget,
  };
}
