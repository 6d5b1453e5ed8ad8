export { failedOperation } from "./batch.js";
export type { Changes, Checkpoint, SyncOptions } from "./changes.js";
export { createClient, type ClientOptions, type TaskwellClient } from "./client.js";
export {
  ApiError,
  NetworkError,
  PreconditionFailed,
  SignedOut,
  StreamsUnsupported,
  TaskwellError,
  TokenUnavailable,
  UserChanged,
} from "./errors.js";
export type { TaskEvent } from "./events.js";
export type { Listing, Page } from "./listing.js";
export { isTransient, newKey } from "./retry.js";
export type { Auth, BetterAuthClient, GetToken } from "./token.js";
export type * from "./types.js";
