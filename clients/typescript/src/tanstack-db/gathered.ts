// Calls that come together are done once.

/** Returns a function that does the work once more if it was called while the work was being done. */
export function gathered(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let isStale = false;
  async function run() {
    try {
      for (; isStale; ) {
        isStale = false;
        await work();
      }
    } finally {
      running = undefined;
    }
  }
  return () => {
    isStale = true;
    return (running ??= run());
  };
}
