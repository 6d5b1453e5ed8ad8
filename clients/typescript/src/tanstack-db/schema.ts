// Completes the tasks that the application inserts.

import { rowOf, type NewTask, type TaskRow } from "./model.js";

/** A schema of the kind Standard Schema. It completes new tasks. The service checks the values. */
export type TaskSchema = {
  "~standard": {
    version: 1;
    vendor: string;
    validate(value: unknown): { value: TaskRow };
    types?: { input: NewTask; output: TaskRow };
  };
};

export const SCHEMA: TaskSchema = {
  "~standard": { version: 1, vendor: "taskwell", validate: (value) => ({ value: rowOf(value as NewTask) }) },
};
