// Lists that can be read whole or page by page.

export type Page<Item, Query> = {
  tasks: Item[];
  /** The number of tasks on all pages. */
  count: number;
  /** The query of the next page, if there is one. */
  next: Query | undefined;
};

/** Tasks, in pages that are requested when they are needed. */
export type Listing<Item, Query> = AsyncIterable<Item> & {
  /** Returns the first page. */
  page(): Promise<Page<Item, Query>>;
  pages(): AsyncIterable<Page<Item, Query>>;
};

/** Returns the pages that begin with `query`. Each walk calls `begin`, and then what it returns for each page. */
export function listing<Item, Query>(
  query: Query,
  begin: () => (query: Query) => Promise<Page<Item, Query>>,
): Listing<Item, Query> {
  async function* pages() {
    const read = begin();
    for (let next: Query | undefined = query; next; ) {
      const page: Page<Item, Query> = await read(next);
      yield page;
      next = page.next;
    }
  }

  async function* items() {
    for await (const { tasks } of pages()) yield* tasks;
  }

  return { page: async () => begin()(query), pages, [Symbol.asyncIterator]: items };
}

/** Returns the cursor of the next page, from the header `Link`. */
export function nextCursor(headers: Headers): string | undefined {
  const [, target = ""] = /<([^>]*)>; rel="next"/.exec(headers.get("Link") ?? "") ?? [];
  const [, cursor] = /[?&]cursor=([^&]*)/.exec(target) ?? [];
  return cursor && decodeURIComponent(cursor);
}
