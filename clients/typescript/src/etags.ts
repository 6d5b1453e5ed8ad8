// The last responses of reads, so that what has not changed need not be sent again.

const MAX_CHARACTERS = 4_000_000;

export type Remembered = { etag: string; text: string; headers: Headers };

export type Memory = {
  recall(url: string): Remembered | undefined;
  remember(url: string, response: Remembered): void;
  clear(): void;
};

/** Returns a memory for responses. When it is full, it forgets those that were not used for the longest time. */
export function memory(): Memory {
  const entries = new Map<string, Remembered>();
  let characters = 0;

  function forget(url: string) {
    characters -= entries.get(url)?.text.length ?? 0;
    entries.delete(url);
  }

  return {
    recall: (url) => entries.get(url),
    remember(url, response) {
      forget(url);
      entries.set(url, response);
      characters += response.text.length;
      for (const oldest of entries.keys()) {
        if (characters <= MAX_CHARACTERS) break;
        forget(oldest);
      }
    },
    clear() {
      entries.clear();
      characters = 0;
    },
  };
}
