// Server-sent events, as WHATWG HTML defines them in section 9.2.

export type Block = { id?: string; event?: string; data?: string; retry?: string };

/** Yields the blocks of a stream whose parts `read` returns, until it ends. A block without its end is dropped. */
export async function* blocks(read: () => Promise<Uint8Array | undefined>): AsyncGenerator<Block> {
  const decoder = new TextDecoder();
  let rest = "";
  let block: Record<string, string> = {};
  for (let part = await read(); part; part = await read()) {
    const lines = (rest + decoder.decode(part, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, name = "", value = ""] = /^(\w*):? ?(.*?)\r?$/s.exec(line) ?? [];
      if (name) block[name] = block[name] === undefined ? value : `${block[name]}\n${value}`;
      else if (!line.startsWith(":") && Object.keys(block).length > 0) {
        yield block;
        block = {};
      }
    }
  }
}
