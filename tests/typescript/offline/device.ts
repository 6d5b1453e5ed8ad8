// An app that works offline. It takes a command in JSON from each line of its input, and writes what the user then sees.
// Its arguments are the user's part of the API, the file in which the device stores everything, and two tokens: one to
// begin with, and the one for which it is exchanged when the service refuses it.

import { openTasks } from "./sync";
import type { App, Problem, Shown, State, Write } from "./types";

declare const process: { argv: string[]; stdin: AsyncIterable<Uint8Array>; exit(): never };
declare function require(name: "node:fs"): {
  existsSync(path: string): boolean;
  readFileSync(path: string, encoding: "utf8"): string;
  renameSync(from: string, to: string): void;
  writeFileSync(path: string, text: string): void;
};

type Command = { do: string; title: string; word: string };
type Stored = Omit<State, "tasks" | "ids" | "etags"> & {
  tasks: [number, never][];
  ids: [number, number][];
  etags: [string, string][];
};

const { existsSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const [, , url = "", file = "", firstToken = "", secondToken = ""] = process.argv;
const refusals: [op: string, code: string, title: string][] = [];
let tokens = 0;

const words = (task: { description?: string | null } | null) => task?.description?.split(" ") ?? [];

/** Adds to the present description the words that the user added to the one on the screen. */
function merged({ seen, shown, task }: Write, { current }: Problem) {
  if (!current || task.description === undefined) return task;
  const added = words(shown).filter((word) => !words(seen).includes(word) && !words(current).includes(word));
  return { ...task, description: [...words(current), ...added].join(" ") };
}

const app: App = {
  url,
  signal: new AbortController().signal,
  async token(fresh) {
    tokens += fresh ? 1 : 0;
    return tokens ? secondToken : firstToken;
  },
  async load() {
    if (!existsSync(file)) return undefined;
    const stored: Stored = JSON.parse(readFileSync(file, "utf8"));
    return { ...stored, tasks: new Map(stored.tasks), ids: new Map(stored.ids), etags: new Map(stored.etags) };
  },
  async save(state) {
    const stored = { ...state, tasks: [...state.tasks], ids: [...state.ids], etags: [...state.etags] };
    writeFileSync(`${file}.new`, JSON.stringify(stored));
    renameSync(`${file}.new`, file);
  },
  refused(write, problem) {
    refusals.push([write.op, problem.error_code, write.shown?.title ?? write.seen.title]);
    if (write.op === "delete" || problem.error_code !== "PRECONDITION_FAILED") return null;
    return merged(write, problem);
  },
};

async function main() {
  const tasks = await openTasks(app);
  let editor: Shown | undefined;

  function find(title: string): Shown {
    for (const task of tasks.view().values()) if (task.title === title) return task;
    throw new Error(`there is no ${title}`);
  }

  function append(task: Shown, word: string) {
    return tasks.change(task, { description: [...words(task), word].join(" ") });
  }

  const actions: Record<string, (command: Command) => unknown> = {
    view: () => {},
    sync: () => tasks.refresh(),
    listen: () => void tasks.listen(),
    create: ({ title }) => tasks.create({ title, description: null, complete: false }),
    append: ({ title, word }) => append(find(title), word),
    complete: ({ title }) => tasks.change(find(title), { complete: true }),
    rename: ({ title, word }) => tasks.change(find(title), { title: word }),
    remove: ({ title }) => tasks.remove(find(title)),
    open: ({ title }) => void (editor = find(title)),
    appendInEditor: ({ word }) => editor && append(editor, word),
  };

  async function obey(line: string) {
    const command: Command = JSON.parse(line);
    await actions[command.do]?.(command);
    const seen = [...tasks.view().values()].sort((a, b) => b.id - a.id);
    console.log(JSON.stringify({ tasks: seen, refusals, tokens }));
  }

  let rest = "";
  for await (const chunk of process.stdin) {
    const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) await obey(line);
  }
  process.exit();
}

void main();
