// Several writes at once: all of them, or none.

import { PreconditionFailed } from "./errors.js";
import type { Bound, Transport } from "./request.js";
import { newKey } from "./retry.js";
import type { BatchResult, Operation } from "./types.js";
import { hasAlready, revisionOf, sendable, whole } from "./writes.js";

/** Applies 1 to 100 operations. */
export async function applyBatch(
  { send }: Transport,
  operations: readonly Operation[],
  call: Bound,
): Promise<BatchResult> {
  const sent = operations.map(prepared);
  const repeatable = sent.every(isRepeatable);
  for (let repeated = false; ; ) {
    try {
      const answer = await send("post", "/tasks/batch", { body: { operations: sent }, repeatable, ...call });
      return { ...answer.body, revision: revisionOf(answer) };
    } catch (error) {
      if (!(error instanceof PreconditionFailed)) throw error;
      repeated ||= error.repeated;
      const index = failedOperation(error);
      const failed = sent[index];
      if (!repeated || !failed || !("task" in failed) || !hasAlready(error.current, failed.task)) throw error;
      // The first attempt was carried out, but its response was lost. Now this operation changes nothing.
      sent[index] = { ...failed, if_match: error.current.etag } as Operation;
    }
  }
}

/** Returns the index of the operation that an error of a batch is about, or -1. */
export function failedOperation({ violations }: { violations: { loc: readonly (string | number)[] }[] }): number {
  const [, list, index] = violations[0]?.loc ?? [];
  return list === "operations" ? Number(index) : -1;
}

function prepared(operation: Operation): Operation {
  if (operation.op === "create") return { key: newKey(), ...operation, task: sendable(operation.task) };
  if (operation.op === "replace") return { ...operation, task: whole(operation.task) };
  if (operation.op === "patch") return { ...operation, task: sendable(operation.task) };
  return operation;
}

function isRepeatable(operation: Operation): boolean {
  return operation.op === "create" || operation.op === "delete" || operation.if_match !== undefined;
}
